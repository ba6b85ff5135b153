package architecture

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGuaranteesAreShown holds the page of guarantees against the tests that it names.
func TestGuaranteesAreShown(t *testing.T) {
	t.Parallel()
	eachRowIsShown(t, "../../docs/guarantees.md", "| shown by | measured |\n", "../..", 10)
}

// eachRowIsShown demands that each row of a page's tables names a test, and that each named one exists below root. The heads of the tables end as
// given, and there are so many rows at least.
func eachRowIsShown(t *testing.T, file, head, root string, least int) {
	t.Helper()
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	written := testsIn(t, root)
	name := regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	rows := 0
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "| ") || strings.HasSuffix(line, head) {
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
	if rows < least {
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
