package installation

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func shared(t *testing.T, id, secret string) Installation {
	t.Helper()
	i, err := Shared(id, secret)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestSeal(t *testing.T) {
	t.Parallel()
	one, clear := shared(t, "one", "a shared secret"), []byte("the pass phrase")
	for _, text := range [][]byte{clear, nil, bytes.Repeat([]byte("x"), 1<<16)} {
		sealed, err := one.Seal("box", text)
		if err != nil || len(text) > 0 && bytes.Contains(sealed, text) {
			t.Fatalf("seal: %v; the text shows: %t", err, bytes.Contains(sealed, text))
		}
		again, err := one.Seal("box", text)
		if err != nil || bytes.Equal(sealed, again) {
			t.Errorf("sealed twice the same: %v", err)
		}
		// Another process of the installation opens it.
		if got, err := shared(t, "one", "a shared secret").Unseal("box", sealed); err != nil || !bytes.Equal(got, text) {
			t.Errorf("unseal: %q, %v", got, err)
		}
	}
	sealed, err := one.Seal("box", clear)
	if err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(sealed)
	changed[len(changed)-1] ^= 1
	for what, try := range map[string]func() ([]byte, error){
		"another sandbox":      func() ([]byte, error) { return one.Unseal("other", sealed) },
		"another installation": func() ([]byte, error) { return shared(t, "one", "another secret").Unseal("box", sealed) },
		"changed":              func() ([]byte, error) { return one.Unseal("box", changed) },
		"cut":                  func() ([]byte, error) { return one.Unseal("box", sealed[:9]) },
		"empty":                func() ([]byte, error) { return one.Unseal("box", nil) },
		"another form":         func() ([]byte, error) { return one.Unseal("box", append([]byte{9}, sealed[1:]...)) },
		"no key":               func() ([]byte, error) { return shared(t, "one", "").Unseal("box", sealed) },
	} {
		got, err := try()
		if err == nil || got != nil || strings.Contains(err.Error(), string(clear)) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	if _, err := shared(t, "one", "").Seal("box", clear); err == nil {
		t.Error("sealed without a key")
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	a, same, other := shared(t, "a", "a shared secret"), shared(t, "a", "a shared secret"), shared(t, "a", "another secret")
	if a.Digest("x") != same.Digest("x") || a.Digest("x") == a.Digest("y") || a.Digest("x") == other.Digest("x") {
		t.Error("equal texts must have equal digests, other texts and keys others")
	}
}
