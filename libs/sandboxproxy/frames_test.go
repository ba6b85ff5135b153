package sandboxproxy

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// frame returns a frame with this first byte.
func frame(first byte, payload int, masked bool) []byte {
	b, mask := []byte{first}, byte(0)
	if masked {
		mask = 0x80
	}
	switch {
	case payload < 126:
		b = append(b, mask|byte(payload))
	case payload < 1<<16:
		b = append(b, mask|126, byte(payload>>8), byte(payload))
	default:
		b = append(b, mask|127, 0, 0, 0, 0, byte(payload>>24), byte(payload>>16), byte(payload>>8), byte(payload))
	}
	if masked {
		b = append(b, 1, 2, 3, 4)
	}
	return append(b, bytes.Repeat([]byte{0x88}, payload)...)
}

func TestFrames(t *testing.T) {
	t.Parallel()
	for _, masked := range []bool{false, true} {
		var stream []byte
		borders := map[int]bool{0: true}
		for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
			stream = append(stream, frame(0x82, size, masked)...)
			borders[len(stream)] = true
		}
		var f frames
		for i, b := range stream {
			if f.between() != borders[i] {
				t.Fatalf("masked %v, byte %d: between is %v", masked, i, f.between())
			}
			f.pass([]byte{b})
		}
		if !f.between() || f.closed {
			t.Errorf("masked %v, at the end: between %v, closed %v", masked, f.between(), f.closed)
		}
		f.pass(frame(0x88, 2, masked)[:2])
		if masked == f.closed {
			t.Errorf("masked %v, after two bytes of a close frame: closed is %v", masked, f.closed)
		}
	}
}

func TestRestOfAFrame(t *testing.T) {
	t.Parallel()
	one, two := frame(0x81, 300, false), frame(0x81, 3, false)
	for cut, want := range map[int]int{0: 0, 1: len(one) - 1, 3: len(one) - 3, 100: len(one) - 100, len(one) - 1: 1, len(one): 0} {
		var f frames
		f.pass(one[:cut])
		before := f
		if got := f.rest(append(bytes.Clone(one[cut:]), two...)); got != want {
			t.Errorf("cut at %d: %d bytes belong to the frame, want %d", cut, got, want)
		}
		if diff := cmp.Diff(before, f, cmp.AllowUnexported(frames{})); diff != "" {
			t.Errorf("asking has changed the state:\n%s", diff)
		}
	}
}

// How a stream is cut into pieces makes no difference, and no bytes make it fail.
func FuzzFrames(f *testing.F) {
	f.Add(append(frame(0x81, 200, true), frame(0x88, 2, false)...), 7)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1}, 1)
	f.Fuzz(func(t *testing.T, stream []byte, at int) {
		if at < 0 || at > len(stream) {
			return
		}
		var whole, parts frames
		whole.pass(stream)
		parts.pass(stream[:at])
		rest := parts.rest(stream[at:])
		if rest < 0 || rest > len(stream)-at {
			t.Fatalf("%d of %d bytes belong to the frame", rest, len(stream)-at)
		}
		parts.pass(stream[at : at+rest])
		if rest < len(stream)-at && !parts.between() {
			t.Error("the rest of a frame did not end it")
		}
		parts.pass(stream[at+rest:])
		if diff := cmp.Diff(whole, parts, cmp.AllowUnexported(frames{})); diff != "" {
			t.Errorf("cut at %d and %d (-whole +parts):\n%s", at, at+rest, diff)
		}
	})
}
