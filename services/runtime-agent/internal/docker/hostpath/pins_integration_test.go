//go:build integration

package hostpath

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// These need the right to mount, as the agent does.

func newPins(t *testing.T) *Pins {
	t.Helper()
	p := NewPins(filepath.Join(t.TempDir(), "pins"))
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func open(t *testing.T, path, allowed string) *os.File {
	t.Helper()
	f, err := Open(path, []string{allowed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func pin(t *testing.T, p *Pins, owner string, f *os.File, readOnly bool) string {
	t.Helper()
	at, err := p.Pin(owner, f, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestAPinStaysWhatWasOpened(t *testing.T) {
	allowed, outside := tree(t)
	data := filepath.Join(allowed, "data")
	if err := os.WriteFile(filepath.Join(data, "mine"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, data, allowed)
	// Swapped before the pin, and once more after it.
	if err := os.Rename(data, data+"-old"); err != nil {
		t.Fatal(err)
	}
	link(t, outside, data)
	p := newPins(t)
	at := pin(t, p, "a", f, false)
	if got, err := os.ReadFile(filepath.Join(at, "mine")); err != nil || string(got) != "mine" {
		t.Errorf("pinned %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(at, "secret")); err == nil {
		t.Error("the pin is what the link leads to")
	}
	file := pin(t, p, "a", open(t, filepath.Join(allowed, "file"), allowed), false)
	if got, err := os.ReadFile(file); err != nil || string(got) != "x" {
		t.Errorf("pinned file: %q, %v", got, err)
	}
	if err := p.Release("a"); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(p.dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if _, err := os.Stat(data + "-old/mine"); err != nil {
		t.Errorf("the release removed what was pinned: %v", err)
	}
}

func TestWhatIsMountedBelow(t *testing.T) {
	allowed, _ := tree(t)
	below := filepath.Join(allowed, "data")
	// Shared, as systemd makes everything: the end of a mount is told to its peers.
	for _, err := range []error{
		unix.Mount(allowed, allowed, "", unix.MS_BIND, ""), unix.Mount("", allowed, "", unix.MS_SHARED, ""),
		unix.Mount("tmpfs", below, "tmpfs", 0, "size=64k"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(allowed, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(below, "deep"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPins(t)
	writable, readOnly := pin(t, p, "w", open(t, allowed, allowed), false), pin(t, p, "r", open(t, allowed, allowed), true)
	for _, at := range []string{writable, readOnly} {
		if _, err := os.Stat(filepath.Join(at, "data", "deep")); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(filepath.Join(writable, "data", "new"), nil, 0o600); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"new", "data/new"} {
		if err := os.WriteFile(filepath.Join(readOnly, path), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("write %s through the read-only pin: %v", path, err)
		}
	}
	if err := errors.Join(p.Release("w"), p.Release("r")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(below, "deep")); err != nil {
		t.Errorf("the end of the pins was the end of what is mounted below: %v", err)
	}
}

func TestANewProcessTakesAwayWhatIsLeft(t *testing.T) {
	allowed, _ := tree(t)
	dir := filepath.Join(t.TempDir(), "pins")
	for range 2 { // each killed before it could close
		pin(t, NewPins(dir), "a", open(t, allowed, allowed), false)
	}
	last := NewPins(dir)
	at := pin(t, last, "b", open(t, allowed, allowed), false)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("below the pins: %v, %v", entries, err)
	}
	if !last.Holds("b") || last.Holds("a") {
		t.Error("holds what it does not, or not what it does")
	}
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(at); err == nil {
		t.Error("the pin is there after the end")
	}
	if _, err := os.Stat(filepath.Join(allowed, "data")); err != nil {
		t.Error(err)
	}
}

func TestAFullDisk(t *testing.T) {
	allowed, _ := tree(t)
	small := filepath.Join(allowed, "data")
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=4k,nr_inodes=1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	if _, err := Open(filepath.Join(small, "new"), []string{allowed}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a directory on a full disk: %v, want ENOSPC", err)
	}
}

func TestSweepAfterAKill(t *testing.T) {
	allowed, _ := tree(t)
	killed := newPins(t)
	pin(t, killed, "a", open(t, filepath.Join(allowed, "data"), allowed), false)
	next := NewPins(killed.dir)
	if err := next.Sweep(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(killed.dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if err := os.Remove(killed.dir); err != nil {
		t.Errorf("something is still mounted: %v", err)
	}
	at := pin(t, next, "b", open(t, filepath.Join(allowed, "data"), allowed), false)
	if err := next.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(at); err != nil {
		t.Errorf("a sweep has taken a pin of its own process away: %v", err)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
}
