package daemon

import (
	"bytes"
	"os"
	"testing"
	"time"
)

// FuzzHandover reads what stands on stdin: a token or an error that does not quote the line, and nothing of what follows it.
func FuzzHandover(f *testing.F) {
	f.Add([]byte("{\"token\":\"a\",\"open_proxy\":false}\nrest"))
	f.Add([]byte("{\"token\":1}\n"))
	f.Add([]byte("\xff{\n\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		if len(sent) > maxTokenLine/2 { // A pipe holds as much.
			return
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := w.Write(sent); err != nil {
			t.Fatal(err)
		}
		w.Close()
		line, rest, whole := bytes.Cut(sent, []byte("\n"))
		h, err := readHandover(int(r.Fd()), time.Minute)
		if (err == nil) != (h.Token != "") || err == nil && !whole {
			t.Errorf("%q gives %+v, %v", sent, h, err)
		}
		if err != nil && len(line) > 40 && bytes.Contains([]byte(err.Error()), line) {
			t.Errorf("the error quotes the line: %v", err)
		}
		left := make([]byte, len(sent)+1)
		if n, _ := r.Read(left); whole && !bytes.Equal(left[:n], rest) {
			t.Errorf("%q: %q is left, want %q", sent, left[:n], rest)
		}
	})
}
