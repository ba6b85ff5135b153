package architecture

import "testing"

// TestChoicesAreShown holds the page of what the daemon answers against the tests that it names.
func TestChoicesAreShown(t *testing.T) {
	t.Parallel()
	eachRowIsShown(t, "../../docs/execd-choices.md", "| shown by |\n", "../../services/execd", 30)
}
