//go:build e2e

package acceptance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documentedImage stands for the public images of the pages, so that the test needs no registry. It is built by scripts/images.sh.
const documentedImage = "opensandbox/debian-python:dev"

// block is a fenced block of a page.
type block struct {
	line     int
	language string // the first word behind the fence
	text     string
	// printed is the text block that follows directly: what the block prints, where … stands for anything. Empty means that it is not compared.
	printed string
}

// output is the file with what the block has written to its standard output.
func (b block) output(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("line%d.out", b.line))
}

// blocks returns the fenced blocks of a page in their order.
func blocks(page string) []block {
	var found []block
	var open *block
	adjacent := false // only blank lines since the last block
	for i, line := range strings.Split(page, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			language, _, _ := strings.Cut(fence, " ")
			open = &block{line: i + 1, language: language}
		case isFence:
			if open.language == "text" && adjacent {
				found[len(found)-1].printed = open.text
			} else {
				found = append(found, *open)
			}
			open, adjacent = nil, true
		case open != nil:
			open.text += line + "\n"
		case line != "":
			adjacent = false
		}
	}
	return found
}

// steps turns the blocks that can be run into one script for bash, so that a shell block leaves its variables to those behind it. Each
// Python and JavaScript block is a program of its own. Other languages are for reading only.
func steps(t *testing.T, dir string, page []block) (script string, run []block) {
	t.Helper()
	script = "set -euo pipefail\n"
	for _, b := range page {
		name := filepath.Join(dir, fmt.Sprintf("line%d", b.line))
		var command string
		switch b.language {
		case "sh":
			name, command = name+".sh", "source"
		case "python":
			name, command = name+".py", "python"
		case "js":
			name, command = name+".mjs", "node"
		default:
			continue
		}
		if err := os.WriteFile(name, []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		script += fmt.Sprintf("%s %s >%s </dev/null\n", command, name, b.output(dir))
		run = append(run, b)
	}
	return script, run
}

// matches compares what was printed with what the page shows.
func matches(got, want string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(want)), "…", ".*")
	return regexp.MustCompile(`(?s)\A` + pattern + `\z`).MatchString(strings.TrimSpace(got))
}

// TestPagesOfTheManual runs what the pages show, in the order in which it stands there.
func TestPagesOfTheManual(t *testing.T) {
	t.Parallel()
	venv, modules := needEnv(t, "OPENSANDBOX_TEST_VENV"), needEnv(t, "OPENSANDBOX_TEST_NODE_MODULES")
	data, config := allowed(t)
	s := startSingle(t, config)
	images := strings.NewReplacer("python:3.11-slim", documentedImage, "node:22-slim", documentedImage, "my-code-interpreter", jupyterImage, "/srv/datasets", data)
	for _, name := range []string{"sandboxes", "commands", "sessions", "terminals", "code", "files", "metrics", "volumes", "networking", "proxy"} {
		t.Run(name, func(t *testing.T) {
			page, err := os.ReadFile(filepath.Join("..", "..", "docs", name+".md"))
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
				t.Fatal(err)
			}
			script, run := steps(t, dir, blocks(images.Replace(string(page))))
			if len(run) == 0 {
				t.Fatal("the page has nothing to run")
			}
			cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "OPEN_SANDBOX_DOMAIN="+strings.TrimPrefix(s.base, "http://"), "OPEN_SANDBOX_API_KEY="+apiKey, "HOME="+dir, "NO_PROXY=*",
				"PATH="+filepath.Join(venv, "bin")+":"+os.Getenv("PATH"))
			out, failed := cmd.CombinedOutput()
			for _, b := range run {
				got, err := os.ReadFile(b.output(dir))
				if err != nil {
					break // the block before it failed
				}
				if b.printed != "" && !matches(string(got), b.printed) {
					t.Errorf("%s.md:%d printed:\n%s\nthe page shows:\n%s", name, b.line, got, b.printed)
				} else if failed != nil {
					t.Logf("%s.md:%d printed:\n%s", name, b.line, got)
				}
			}
			if failed != nil {
				t.Errorf("%s.md: the last of these blocks failed: %v\n%s", name, failed, out)
			}
		})
	}
}
