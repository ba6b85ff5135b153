package terminal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Message{
		"\x00ls\n": {Request: Input, Data: []byte("ls\n")}, "\x00\x00": {Request: Input, Data: []byte{0}}, "": {}, "\x00": {}, "\x01x": {}, "x": {},
	} {
		if d := cmp.Diff(want, ParseBinary([]byte(in))); d != "" {
			t.Errorf("binary %q (-want +got):\n%s", in, d)
		}
	}
	for in, want := range map[string]Message{
		`{"type":"stdin","data":"a\n"}`:              {Request: Input, Data: []byte("a\n")},
		`{"type":"stdin"}`:                           {},
		`{"type":"resize","cols":100,"rows":30}`:     {Request: Resize, Cols: 100, Rows: 30},
		`{"type":"resize","cols":100000,"rows":1}`:   {Request: Resize, Cols: 65535, Rows: 1},
		`{"type":"resize","cols":100}`:               {},
		`{"type":"resize","cols":-1,"rows":5}`:       {},
		`{"type":"signal","signal":"SIGINT"}`:        {Request: Signal, Signal: syscall.SIGINT},
		`{"type":"signal","signal":"SIGSTOP"}`:       {},
		`{"type":"ping"}`:                            {Request: Ping},
		`{"type":"dance"}`:                           {Request: Unknown, Type: "dance"},
		`{}`:                                         {Request: Unknown},
		`{"type":1}`:                                 {},
		`not json`:                                   {},
		``:                                           {},
		`{"type":"resize","cols":"wide","rows":"1"}`: {},
	} {
		if d := cmp.Diff(want, ParseText([]byte(in))); d != "" {
			t.Errorf("text %s (-want +got):\n%s", in, d)
		}
	}
}

// FuzzFrames reads any frame of a client.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00ls\n"))
	f.Add([]byte(`{"type":"resize","cols":100,"rows":30}`))
	f.Add([]byte(`{"type":"signal","signal":"SIGINT","data":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []Message{ParseBinary(b), ParseText(b)} {
			if (m.Request == Input) != (len(m.Data) > 0) || (m.Request == Resize) != (m.Cols > 0 && m.Rows > 0) || (m.Request == Signal) != (m.Signal != 0) {
				t.Errorf("%q gives %+v", b, m)
			}
		}
		if m := ParseBinary(append([]byte{FrameInput}, b...)); len(b) > 0 && !bytes.Equal(m.Data, b) {
			t.Errorf("input %q arrives as %q", b, m.Data)
		}
	})
}

func TestEncode(t *testing.T) {
	t.Parallel()
	if got := (Frame{Kind: FrameOutput, Offset: 7, Data: []byte("x")}).Encode(); string(got) != "\x01x" {
		t.Errorf("output: %q", got)
	}
	got := Frame{Kind: FrameReplay, Offset: 1 << 40, Data: []byte("xy")}.Encode()
	if got[0] != 3 || binary.BigEndian.Uint64(got[1:]) != 1<<40 || string(got[9:]) != "xy" {
		t.Errorf("replay: %q", got)
	}
}

// FuzzRing compares with a plain slice of everything.
func FuzzRing(f *testing.F) {
	f.Add(uint64(1), int64(0), 100)
	f.Add(uint64(2), int64(ringSize), 3)
	f.Add(uint64(3), int64(-5), 1<<30)
	f.Fuzz(func(t *testing.T, seed uint64, since int64, limit int) {
		source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
		random := rand.New(source)
		var r ring
		var all []byte
		for range 1 + random.IntN(12) {
			b := make([]byte, random.IntN(1<<random.IntN(21)))
			_, _ = source.Read(b) // Never fails.
			r.add(b)
			all = append(all, b...)
		}
		if r.total != int64(len(all)) || len(r.buf) > ringSize {
			t.Fatalf("total %d and %d bytes of memory after %d bytes", r.total, len(r.buf), len(all))
		}
		limit = max(limit, 0)
		first := min(max(since, r.total-ringSize, 0), r.total)
		want := all[first:]
		want = want[:min(len(want), limit)]
		if got, offset := r.from(since, limit); offset != first || !bytes.Equal(got, want) {
			t.Errorf("from %d, at most %d: %d bytes at %d, want %d at %d", since, limit, len(got), offset, len(want), first)
		}
	})
}

func TestInSession(t *testing.T) {
	t.Parallel()
	for stat, want := range map[string]bool{
		"12 (sh) S 1 12 77 0": true, "12 (a) b) 77 (x) R 1 12 77 0": true, "12 (sh) S 1 77 12 0": false, "12 (sh) Z 1 12 77 0": false, "": false, "12 (sh": false,
	} {
		if inSession(stat, 77) != want {
			t.Errorf("%q: want %v", stat, want)
		}
	}
}

func TestKillSession(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "set -m; sleep 1000 & sleep 1000 & wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout = in // All of them have it; it ends when the last of them has.
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	killSession("/proc", cmd.Process.Pid)
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the leader ended with %v", err)
	}
	if n, err := out.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d %v", n, err)
	}
	killSession("/no/such/proc", 1)
}

func TestArguments(t *testing.T) {
	t.Parallel()
	for want, got := range map[string][]string{
		"[bash --norc --noprofile]": arguments("/bin/bash", ""), "[bash --norc --noprofile -c top]": arguments("/bin/bash", "top"), "[sh]": arguments("/bin/sh", ""),
	} {
		if fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	if got := variables([]string{"A=1"}, false); fmt.Sprint(got) != "[A=1 TERM=xterm-256color]" {
		t.Errorf("got %v", got)
	}
	if got := variables([]string{"TERM=vt100"}, false); fmt.Sprint(got) != "[TERM=vt100]" {
		t.Errorf("got %v", got)
	}
}

// TestTheLastWordsOutliveTheDrain: the drain is over before anything was read, as with a holder that took nothing for so long.
func TestTheLastWordsOutliveTheDrain(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close() // A child that was left behind has it open.
	words := bytes.Repeat([]byte("word\n"), pipeSize/5)
	if _, err := w.Write(words); err != nil {
		t.Fatal(err)
	}
	if err := r.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	term := &terminal{changed: make(chan struct{})}
	term.read(r, FrameOutput)
	if got, _ := term.ring.from(0, ringSize); !bytes.Equal(got, words) {
		t.Errorf("%d bytes arrived, want %d", len(got), len(words))
	}
}
