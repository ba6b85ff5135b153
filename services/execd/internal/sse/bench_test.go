package sse

import (
	"bytes"
	"net/http"
	"testing"
)

// discard is a response that goes nowhere.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) WriteHeader(int)             {}
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) Flush()                      {}

// BenchmarkOutput writes what one read of a pipe brings.
func BenchmarkOutput(b *testing.B) {
	for name, line := range map[string][]byte{
		"4KiB": append(bytes.Repeat([]byte("plain words "), 341), "end\n"...), "yes": []byte("y\n"),
		"umlauts": append(bytes.Repeat([]byte("größer "), 455), '\n'), "quotes": append(bytes.Repeat([]byte(`"key": 1, `), 409), '\n'),
	} {
		b.Run(name, func(b *testing.B) {
			lines := bytes.SplitAfter(bytes.Repeat(line, 32<<10/len(line)), []byte("\n"))
			lines = lines[:len(lines)-1]
			s := Open(discard{http.Header{}})
			defer s.Close()
			b.SetBytes(int64(len(lines) * len(line)))
			b.ReportAllocs()
			for b.Loop() {
				_ = s.Output("stdout", lines)
			}
		})
	}
}
