package architecture

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGuaranteesAreShown holds the page of guarantees against the tests that it names: each row has one, and each exists.
func TestGuaranteesAreShown(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	written := testsIn(t, "../..")
	name := regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	rows := 0
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| guarantee ") {
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
	if rows < 10 {
		t.Errorf("the page has %d rows", rows)
	}
}

// testsIn returns the names of all tests below a folder.
func testsIn(t *testing.T, root string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	head := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range head.FindAllStringSubmatch(string(text), -1) {
			out[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
