package files

import (
	"os"
	"os/user"
	"path/filepath"
	"testing"

	"opensandbox/libs/fault"
)

// TestUnknownNames: an image without /etc/passwd and /etc/group answers like one that has them, but not the name. How an image without a shell
// answers is asked in the acceptance tests.
func TestUnknownNames(t *testing.T) {
	t.Parallel()
	_, noList := os.Open(filepath.Join(t.TempDir(), "passwd"))
	_, unreadable := os.ReadFile(t.TempDir())
	const name = "no-such-name"
	for want, tt := range map[string]struct {
		asked  Permission
		nobody error
	}{
		"error accessing file: user: unknown user no-such-name":   {Permission{Owner: name}, user.UnknownUserError(name)},
		"error accessing file: group: unknown group no-such-name": {Permission{Group: name}, user.UnknownGroupError(name)},
	} {
		_, err := tt.asked.resolve()
		for where, err := range map[string]error{"here": err, "without a list": broken(unknown(noList, tt.nobody))} {
			if fault.TextOf(err) != want || fault.CodeOf(err) != codeRuntime || !fault.Is(err, fault.Internal) {
				t.Errorf("%s: got %v (%s), want %q", where, err, fault.CodeOf(err), want)
			}
		}
		if got := unknown(unreadable, tt.nobody); got != unreadable {
			t.Errorf("a list that cannot be read: got %v, want %v", got, unreadable)
		}
	}
}
