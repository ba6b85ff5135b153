package files

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTemporary has both kinds of temporary files, whatever the file system of the test can.
func TestTemporary(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(t *testing.T, dir string) *temporary{
		"as the file system can": func(t *testing.T, dir string) *temporary {
			f, err := newTemporary(dir, 0o640)
			if err != nil {
				t.Fatal(err)
			}
			return f
		},
		"with a name": func(t *testing.T, dir string) *temporary {
			f := &temporary{dir: dir}
			f.name = f.newName()
			var err error
			if f.File, err = os.OpenFile(f.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640); err != nil {
				t.Fatal(err)
			}
			return f
		},
	}
	for kind, newFile := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			target := filepath.Join(dir, "target")
			for _, content := range []string{"new", "replaced"} {
				f := newFile(t, dir)
				if _, err := f.WriteString(content); err != nil {
					t.Fatal(err)
				}
				if err := (resolved{uid: -1, gid: -1, mode: 0o604, hasMode: true}).apply(f.path()); err != nil {
					t.Error(err)
				}
				if err := f.takePlace(target); err != nil {
					t.Error(err)
				}
				f.discard()
				if b, err := os.ReadFile(target); err != nil || string(b) != content {
					t.Errorf("got %q, %v, want %q", b, err, content)
				}
			}
			if st, err := os.Stat(target); err != nil || st.Mode().Perm() != 0o604 {
				t.Errorf("got %v, %v", st.Mode(), err)
			}
			f := newFile(t, dir)
			if err := f.takePlace(dir); err == nil {
				t.Error("a directory was replaced")
			}
			f.discard()
			if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
				t.Errorf("got %v, %v, want the target alone", all, err)
			}
		})
	}
}

// TestKilledUploadLeavesNothing looks at the directory while an upload goes on: what is not there cannot stay when the daemon is killed. On a
// file system that knows no files without a name there is one, and only that.
func TestKilledUploadLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := newTemporary(dir, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	want := 1
	if f.name != "" {
		want = 2
	}
	f.discard()
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- writeWhole(filepath.Join(dir, "x"), r, resolved{uid: -1, gid: -1}, nil)
	}()
	if _, err := io.WriteString(w, strings.Repeat("x", 2*chunk)); err != nil {
		t.Fatal(err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != want {
		t.Errorf("during the upload: got %v, %v, want %d entries", all, err, want)
	}
	_ = w.CloseWithError(errors.New("cut"))
	if err := <-done; err == nil {
		t.Error("a cut upload succeeded")
	}
	if b, err := os.ReadFile(filepath.Join(dir, "x")); err != nil || string(b) != "old" {
		t.Errorf("got %q, %v, want what was there", b, err)
	}
}
