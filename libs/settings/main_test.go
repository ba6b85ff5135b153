package settings_test

import (
	"crypto/rand"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"opensandbox/libs/secrettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// password is what the tests hide wherever a secret may stand. Their texts have the word PASSWORD in its place, so that the text of a failure can
// show them, and that what is fuzzed is the same in each run.
var password = secrettest.New("a password in the settings")

// accessKey is a key in base64 that needs padding, for which texts have BASE64.
var accessKey = base64.RawStdEncoding.EncodeToString([]byte(shared(16)))

// reveal returns a text as a process would find it, with the secrets in it.
func reveal(text string) string {
	return strings.NewReplacer("PASSWORD", password, "BASE64", accessKey).Replace(text)
}

func env(m map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) { v, ok := m[k]; return reveal(v), ok }
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server.toml")
	if err := os.WriteFile(path, []byte(reveal(content)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// shared returns a shared secret of n bytes, up to 26. Those under 16 are refused.
func shared(n int) string {
	s := rand.Text()[:n]
	secrettest.Note("a shared secret", s)
	return s
}
