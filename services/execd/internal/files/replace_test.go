package files

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
)

// FuzzReplacing: however little is read at a time, and however small the buffer, the text is that of bytes.ReplaceAll.
func FuzzReplacing(f *testing.F) {
	for _, s := range [][3]string{{"", "a", "b"}, {"aaaa", "aa", "b"}, {"abcabcab", "abc", ""}, {"xxab", "ab", "abab"}, {"aab", "ab", "x"}, {"ababac", "abac", "-"}} {
		f.Add([]byte(s[0]), []byte(s[1]), []byte(s[2]))
	}
	f.Fuzz(func(t *testing.T, content, old, by []byte) {
		if len(old) == 0 {
			return
		}
		want, count := bytes.ReplaceAll(content, old, by), bytes.Count(content, old)
		for _, src := range []io.Reader{bytes.NewReader(content), iotest.OneByteReader(bytes.NewReader(content)), iotest.DataErrReader(bytes.NewReader(content))} {
			r := newReplacing(src, string(old), string(by))
			r.buf = make([]byte, 2*len(old))
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want) || r.count != count {
				t.Errorf("got %q, %d times, %v; want %q, %d times", got, r.count, err, want, count)
			}
		}
	})
}

// TestReplaceOfAnySize: new content reaches its file as it should be, also where that is written in place: where it has another name.
func TestReplaceOfAnySize(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 2 * maxInMemory} {
		for _, twin := range []bool{false, true} {
			dir := t.TempDir()
			s := New(nil, []string{filepath.Join(dir, "spool")})
			path := filepath.Join(dir, "file")
			if err := os.WriteFile(path, bytes.Repeat([]byte("ab"), size/2), 0o640); err != nil {
				t.Fatal(err)
			}
			read := path
			if twin {
				read = filepath.Join(dir, "twin")
				if err := os.Link(path, read); err != nil {
					t.Fatal(err)
				}
			}
			out, err := s.Replace(map[string]Replacement{path: {Old: "b", New: "ccc"}})
			if err != nil || out[path].Count != size/2 {
				t.Fatal(out, err)
			}
			got, err := os.ReadFile(read)
			if err != nil || string(got) != strings.Repeat("accc", size/2) {
				t.Errorf("size %d, two names %t: %d bytes, %v", size, twin, len(got), err)
			}
			if left, _ := os.ReadDir(filepath.Join(dir, "spool")); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		}
	}
}

// TestReplaceWithoutRoom: a result that no disk can hold is refused before anything is written.
func TestReplaceWithoutRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := New(nil, []string{dir})
	path := filepath.Join(dir, "file")
	content := bytes.Repeat([]byte("a"), 4<<20)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := s.Replace(map[string]Replacement{path: {Old: "a", New: strings.Repeat("b", 4<<20)}})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("16 TiB: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file was changed: %d bytes, %v", len(got), err)
	}
}
