package installation_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"opensandbox/libs/installation"
	"opensandbox/libs/secrettest"
)

func TestOpenKeepsIDAndKey(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	first, err := installation.Open(dir, "/some/store.db", "")
	if err != nil {
		t.Fatal(err)
	}
	second, err := installation.Open(dir, "/another/store.db", "")
	if err != nil {
		t.Fatal(err)
	}
	if first.ID() == "" || first.ID() != second.ID() || first.Token("a", 1) != second.Token("a", 1) {
		t.Errorf("id %q then %q, same token: %v", first.ID(), second.ID(), first.Token("a", 1) == second.Token("a", 1))
	}
	info, err := os.Stat(filepath.Join(dir, "installation.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v; want mode 0600", info.Mode(), err)
	}
	if _, err := installation.Open(dir, "x", "another"); err == nil || !strings.Contains(err.Error(), first.ID()) {
		t.Errorf("another id must be refused and name the kept one: %v", err)
	}
}

func TestTokensDiffer(t *testing.T) {
	t.Parallel()
	a, err := installation.Open(t.TempDir(), "s", "one")
	if err != nil {
		t.Fatal(err)
	}
	b, err := installation.Open(t.TempDir(), "s", "one")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, tok := range []string{a.Token("x", 1), a.Token("x", 2), a.Token("y", 1), a.Token("x1", 1), b.Token("x", 1)} {
		secrettest.Note("a token", tok)
		if len(tok) != 43 || seen[tok] {
			t.Errorf("token %d: length %d, seen before: %v", i, len(tok), seen[tok])
		}
		seen[tok] = true
	}
}

func TestOpenAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var wg sync.WaitGroup
	toks := make([]string, 8)
	for i := range toks {
		wg.Go(func() {
			in, err := installation.Open(dir, "s", "")
			if err != nil {
				t.Error(err)
				return
			}
			toks[i] = in.ID() + in.Token("x", 1)
		})
	}
	wg.Wait()
	for _, tok := range toks[1:] {
		if tok != toks[0] {
			t.Fatal("racing starts disagree")
		}
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"", "UPPER", "-a", "a-", "a_b", strings.Repeat("a", 41), "a\n"} {
		if _, err := installation.New(id, make([]byte, 32)); err == nil {
			t.Errorf("id %q was taken", id)
		}
	}
	if _, err := installation.New("a", make([]byte, 31)); err == nil {
		t.Error("a short key was taken")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "installation.key"), []byte("zz"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := installation.Open(dir, "s", ""); err == nil {
		t.Error("a broken key file was taken")
	}
}

func TestShared(t *testing.T) {
	t.Parallel()
	shared := func(id, secret string) installation.Installation {
		t.Helper()
		i, err := installation.Shared(id, secret)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	one := secrettest.New("a shared secret")
	a, b, other := shared("", one), shared("", one), shared("", secrettest.New("another shared secret"))
	if a.ID() != installation.DefaultID || a.Token("x", 1) != b.Token("x", 1) || a.Fingerprint() == "" || a.Fingerprint() != b.Fingerprint() {
		t.Errorf("two processes with one secret differ: %q %q", a.Fingerprint(), b.Fingerprint())
	}
	if a.Token("x", 1) == other.Token("x", 1) || a.Fingerprint() == other.Fingerprint() {
		t.Error("another secret gave the same key")
	}
	if keyless := shared("lab", ""); keyless.ID() != "lab" || keyless.Fingerprint() != "" {
		t.Errorf("without a secret: %q %q", keyless.ID(), keyless.Fingerprint())
	}
	for _, secret := range []string{"", one} {
		if _, err := installation.Shared("No Such Id", secret); err == nil {
			t.Error("an id that is no id was accepted")
		}
	}
}
