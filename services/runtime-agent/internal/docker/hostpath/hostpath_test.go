package hostpath

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes /allowed with a directory and a file, and /outside with a secret, below a temporary directory.
func tree(t *testing.T) (allowed, outside string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	allowed, outside = filepath.Join(dir, "allowed"), filepath.Join(dir, "outside")
	for _, d := range []string{filepath.Join(allowed, "data"), outside} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{filepath.Join(allowed, "file"), filepath.Join(outside, "secret")} {
		if err := os.WriteFile(f, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return allowed, outside
}

func link(t *testing.T, target, at string) {
	t.Helper()
	if err := os.Symlink(target, at); err != nil {
		t.Fatal(err)
	}
}

// same reports whether a descriptor is for what a path names.
func same(t *testing.T, f *os.File, path string) bool {
	t.Helper()
	var a, b unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &a); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(path, &b); err != nil {
		t.Fatal(err)
	}
	return a.Dev == b.Dev && a.Ino == b.Ino
}

func TestOpen(t *testing.T) {
	t.Parallel()
	allowed, outside := tree(t)
	link(t, "data", filepath.Join(allowed, "inside"))
	link(t, filepath.Join(allowed, "data"), filepath.Join(allowed, "inside-absolute"))
	link(t, outside, filepath.Join(allowed, "escape"))
	link(t, "../outside", filepath.Join(allowed, "escape-relative"))
	link(t, "/", filepath.Join(allowed, "data", "root"))
	link(t, filepath.Join(allowed, "nowhere"), filepath.Join(allowed, "dangling"))
	link(t, "loop", filepath.Join(allowed, "loop"))
	link(t, allowed, outside+"-link")
	if err := unix.Mkfifo(filepath.Join(allowed, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path    string
		allowed []string
		is      string
		err     error
	}{
		"the directory itself":             {allowed, []string{allowed}, allowed, nil},
		"a directory":                      {allowed + "/data", []string{allowed}, allowed + "/data", nil},
		"a file":                           {allowed + "/file", []string{allowed}, allowed + "/file", nil},
		"one that is made":                 {allowed + "/new/one", []string{allowed}, allowed + "/new/one", nil},
		"a link that stays":                {allowed + "/inside", []string{allowed}, allowed + "/data", nil},
		"an absolute link that stays":      {allowed + "/inside-absolute/made", []string{allowed}, allowed + "/data/made", nil},
		"an allowed link":                  {outside + "-link/data", []string{outside + "-link"}, allowed + "/data", nil},
		"an allowed directory with a /":    {allowed + "/data", []string{allowed + "/"}, allowed + "/data", nil},
		"everything":                       {outside + "/secret", []string{"/"}, outside + "/secret", nil},
		"an allowed one that is made":      {allowed + "/later/x", []string{allowed + "/later"}, allowed + "/later/x", nil},
		"another":                          {outside, []string{allowed}, "", ErrOutside},
		"one with the same beginning":      {allowed + "-more", []string{allowed}, "", ErrOutside},
		"nothing is allowed":               {allowed, nil, "", ErrOutside},
		"a relative one is allowed":        {allowed, []string{"."}, "", ErrOutside},
		"dots":                             {allowed + "/../outside", []string{allowed}, "", ErrOutside},
		"a link that leads out":            {allowed + "/escape", []string{allowed}, "", ErrOutside},
		"below a link that leads out":      {allowed + "/escape/secret", []string{allowed}, "", ErrOutside},
		"a new one below a link":           {allowed + "/escape/new", []string{allowed}, "", ErrOutside},
		"a relative link that leads out":   {allowed + "/escape-relative", []string{allowed}, "", ErrOutside},
		"a link to the root, and back":     {allowed + "/data/root" + outside, []string{allowed}, "", ErrOutside},
		"a link to the root, and in again": {allowed + "/data/root" + allowed + "/file", []string{allowed}, allowed + "/file", nil},
		"a link to nothing":                {allowed + "/dangling", []string{allowed}, "", ErrChanged},
		"a link to itself":                 {allowed + "/loop", []string{allowed}, "", errAny},
		"below a file":                     {allowed + "/file/x", []string{allowed}, "", errAny},
		"a pipe":                           {allowed + "/pipe", []string{allowed}, "", ErrKind},
	} {
		f, err := Open(c.path, c.allowed)
		switch {
		case c.err != nil:
			if err == nil || c.err != errAny && !errors.Is(err, c.err) {
				t.Errorf("%s: %v, want %v", name, err, c.err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case !same(t, f, c.is):
			t.Errorf("%s: opened something else than %s", name, c.is)
		}
		if f != nil {
			_ = f.Close()
		}
	}
	if _, err := os.Stat(outside + "/new"); err == nil {
		t.Error("a directory was made outside")
	}
}

// errAny stands for an error of the system.
var errAny = errors.New("any")

// TestWalkFollowsNoLink is a path of which a component became a link after it was resolved.
func TestWalkFollowsNoLink(t *testing.T) {
	t.Parallel()
	allowed, outside := tree(t)
	for name, c := range map[string]struct{ link, path string }{
		"the last":          {"last", "last"},
		"one in the middle": {"middle", "middle/secret"},
		"one to be made":    {"made", "made/new"},
	} {
		link(t, outside, filepath.Join(allowed, c.link))
		if f, err := walk(filepath.Join(allowed, c.path)); err == nil {
			_ = f.Close()
			t.Errorf("%s: the walk followed a link", name)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "new")); err == nil {
		t.Error("a directory was made outside")
	}
}

func FuzzOpenStaysInside(f *testing.F) {
	for _, s := range []string{"data", "../outside", "escape/secret", "a/b/c", "./x", "data/../..", "\x00", "escape", "data/root/etc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		allowed, outside := tree(t)
		link(t, outside, filepath.Join(allowed, "escape"))
		link(t, "/", filepath.Join(allowed, "data", "root"))
		got, err := Open(allowed+"/"+rest, []string{allowed})
		if err != nil {
			return
		}
		defer got.Close()
		if real, err := filepath.EvalSymlinks(got.Name()); err != nil || !below(real, []string{allowed}) || !same(t, got, real) {
			t.Errorf("%q opened %q, %v", rest, real, err)
		}
	})
}
