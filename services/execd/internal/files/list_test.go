package files

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"opensandbox/libs/fault"
)

// TestWalkOfNobody: a walk that nobody waits for ends, whether it finds anything or not.
func TestWalkOfNobody(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a", "b", "c"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := New(nil, nil)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	never := func(i Info) error {
		t.Errorf("found %s", i.Path)
		return nil
	}
	if err := s.Search(ctx, root, "*", never); !errors.Is(err, context.Canceled) {
		t.Errorf("search: %v", err)
	}
	if err := s.List(ctx, root, 9, never); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
}

// TestLargeDirectory: no entry of a directory is lost, and each comes once, however many there are.
func TestLargeDirectory(t *testing.T) {
	t.Parallel()
	for _, count := range []int{0, 1, 99, 100, 101, 1000} {
		dir := t.TempDir()
		for i := range count {
			if err := os.Symlink("nowhere", filepath.Join(dir, strconv.Itoa(i))); err != nil {
				t.Fatal(err)
			}
		}
		var names []string
		err := inParts(dir, 100, func(e fs.DirEntry) error {
			names = append(names, e.Name())
			return nil
		})
		if sorted := slices.IsSorted(names); err != nil || sorted != (count <= 100) {
			t.Errorf("%d entries: sorted %t, %v", count, sorted, err)
		}
		slices.Sort(names)
		if len(names) != count || len(slices.Compact(names)) != count {
			t.Errorf("%d entries: got %d", count, len(names))
		}
	}
}

// TestWalkIntoWhatCannotBeRead: however deep an error comes from, it is worded once.
func TestWalkIntoWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	at, err := unix.Open(root, unix.O_RDONLY, 0)
	for range 20 { // The path to the last is longer than the kernel takes.
		name := strings.Repeat("d", 250)
		if err = errors.Join(err, unix.Mkdirat(at, name, 0o755)); err != nil {
			t.Fatal(err)
		}
		above := at
		at, err = unix.Openat(at, name, unix.O_RDONLY, 0)
		_ = unix.Close(above)
	}
	_ = unix.Close(at)
	s := New(nil, nil)
	ignore := func(Info) error { return nil }
	for what, err := range map[string]error{
		"search": s.Search(t.Context(), root, "*", ignore), "list": s.List(t.Context(), root, 99, ignore),
	} {
		if text := fault.TextOf(err); !errors.Is(err, unix.ENAMETOOLONG) || strings.Count(text, "error accessing file: ") != 1 {
			t.Errorf("%s: %.100s", what, text)
		}
	}
}
