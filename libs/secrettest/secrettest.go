// Package secrettest gives tests the passwords, keys and tokens that they use, and finds them in what is written. A secret that is made
// anew for each run cannot be an ordinary word, so wherever it is found, it has leaked. The tests of one process look for their own with
// Absent; scripts/test.sh collects the secrets of a whole suite, and looks for them in all that the suite has printed.
//
// Shell scripts add to the same list with the function secret of scripts/lib.sh.
package secrettest

import (
	"crypto/rand"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
)

// ListVariable names the environment variable with the path of the list: a file to which each secret is appended as a line of its name, a
// tab and its value. Without it a process keeps its secrets for itself.
const ListVariable = "OPENSANDBOX_TEST_SECRETS"

// MinLength is the length in bytes under which a value is no secret: it would be found in what has nothing to do with it.
const MinLength = 12

// used are the secrets of this process by value. The list belongs to the process, as its output does.
var used = struct {
	sync.Mutex
	names map[string]string
}{names: map[string]string{}}

// New returns a secret of 33 letters and digits that nobody else has. The name says what it is ("the API key"): it is what a report shows.
// It panics if the secret cannot be listed: what it leaked into would not be noticed. It may be called concurrently.
func New(name string) string {
	s := "secret-" + rand.Text()
	Note(name, s)
	return s
}

// Note lists a secret that was made elsewhere, such as a token that a server gave out. Noted again it keeps its first name. It panics if the
// value is shorter than MinLength, if name or value has a line break or the name a tab, and if the list cannot be written. It may be called
// concurrently.
func Note(name, secret string) {
	if len(secret) < MinLength || strings.ContainsAny(name, "\t\r\n") || strings.ContainsAny(secret, "\r\n") {
		panic(fmt.Sprintf("%s, of %d bytes, cannot be listed as a secret", name, len(secret)))
	}
	used.Lock()
	defer used.Unlock()
	if _, known := used.names[secret]; known {
		return
	}
	used.names[secret] = name
	if path := os.Getenv(ListVariable); path != "" {
		if err := add(path, name+"\t"+secret+"\n"); err != nil {
			panic(fmt.Sprintf("list %s as a secret: %v", name, err))
		}
	}
}

// add appends a line in one write, so that lines of several processes never mix.
func add(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(line); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// Used returns the secrets of this process so far, the name of each by its value.
func Used() map[string]string {
	used.Lock()
	defer used.Unlock()
	return maps.Clone(used.names)
}

// Absent fails a test if a text has a secret of this process in it, in any form that Search knows. It says where, and never the secret.
func Absent[T ~string | ~[]byte](tb testing.TB, where string, text T) {
	tb.Helper()
	for _, f := range NewSearch(Used()).In([]byte(text)) {
		tb.Errorf("%s shows %s", where, f)
	}
}
