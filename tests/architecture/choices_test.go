package architecture

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestChoicesAreShown holds the page of what the daemon answers against the tests that it names: each row has one, and each exists.
func TestChoicesAreShown(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/execd-choices.md")
	if err != nil {
		t.Fatal(err)
	}
	written := testsIn(t, "../../services/execd")
	name := regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	rows := 0
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "| ") || strings.HasSuffix(line, "| shown by |\n") {
			continue
		}
		rows++
		named := name.FindAllStringSubmatch(line, -1)
		if len(named) == 0 {
			t.Errorf("no test shows: %s", line)
		}
		for _, m := range named {
			if !written[m[1]] {
				t.Errorf("%s does not exist; it is said to show: %s", m[1], line)
			}
		}
	}
	if rows < 30 {
		t.Errorf("the page has %d rows", rows)
	}
}
