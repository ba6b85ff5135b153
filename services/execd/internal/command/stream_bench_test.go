package command

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"opensandbox/services/execd/internal/sse"
)

// streamed answers with the events of a command, as the daemon does.
type streamed struct {
	w      http.ResponseWriter
	stream *sse.Stream
}

func (s *streamed) Started(id string) {
	s.stream = sse.Open(s.w)
	_ = s.stream.Init(id)
}

func (s *streamed) Output(stream string, lines [][]byte) error { return s.stream.Output(stream, lines) }

// BenchmarkStreamedOutput sends the output of one command to a reader that takes all it can get, over a connection of this machine.
func BenchmarkStreamedOutput(b *testing.B) {
	m := New(Config{Starter: reaper, Env: os.Environ(), OutputDirs: []string{b.TempDir()}})
	defer m.Close()
	for name, line := range map[string]int{"4KiB": 4 << 10, "80B": 80, "yes": 2} {
		size := 64 << 20
		if name == "yes" {
			size = 8 << 20
		}
		file := filepath.Join(b.TempDir(), "lines")
		content := bytes.Repeat(append(bytes.Repeat([]byte("x"), line-1), '\n'), size/line)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			b.Fatal(err)
		}
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sink := &streamed{w: w}
			res, err := m.Foreground(r.Context(), &Request{Argv: []string{"cat", file}}, sink)
			if err == nil {
				_ = sink.stream.Complete(res.Took)
			}
			sink.stream.Close()
		}))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				res, err := http.Get(srv.URL)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if err != nil || n < int64(size) {
					b.Fatalf("got %d bytes, %v", n, err)
				}
			}
		})
		srv.Close()
		http.DefaultClient.CloseIdleConnections()
	}
}
