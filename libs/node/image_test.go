package node_test

import (
	"regexp"
	"testing"

	"opensandbox/libs/node"
)

func TestCanonicalImage(t *testing.T) {
	t.Parallel()
	const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for ref, want := range map[string]string{
		"busybox":                          "docker.io/library/busybox:latest",
		"busybox:1.36":                     "docker.io/library/busybox:1.36",
		"library/busybox":                  "docker.io/library/busybox:latest",
		"docker.io/busybox":                "docker.io/library/busybox:latest",
		"index.docker.io/library/busybox":  "docker.io/library/busybox:latest",
		"docker.io/library/busybox:latest": "docker.io/library/busybox:latest",
		"me/tool:v1":                       "docker.io/me/tool:v1",
		"localhost/tool":                   "localhost/tool:latest",
		"localhost:5000/tool":              "localhost:5000/tool:latest",
		"registry.example:5000/a/b:c":      "registry.example:5000/a/b:c",
		"ghcr.io/a/b/c":                    "ghcr.io/a/b/c:latest",
		"busybox" + digest:                 "docker.io/library/busybox" + digest,
		"busybox:1.36" + digest:            "docker.io/library/busybox" + digest,
		digest[1:]:                         digest[1:],
	} {
		if got := node.CanonicalImage(ref); got != want {
			t.Errorf("CanonicalImage(%q) = %q, want %q", ref, got, want)
		}
	}
}

// reference is about the form of image references.
var reference = regexp.MustCompile(`^([a-zA-Z0-9.-]+(:[0-9]+)?/)?[a-z0-9._-]+(/[a-z0-9._-]+)*(:[a-zA-Z0-9._-]+)?(@sha256:[0-9a-f]+)?$`)

func FuzzCanonicalImage(f *testing.F) {
	for _, s := range []string{"busybox", "a/b:c", "localhost:5000/x@sha256:00", ":", "@", "/", "a//b", "A/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		once := node.CanonicalImage(ref)
		if twice := node.CanonicalImage(once); twice != once && reference.MatchString(ref) {
			t.Errorf("%q becomes %q, and that %q", ref, once, twice)
		}
	})
}
