package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"opensandbox/libs/conf"
)

// TestExamplesAreValid reads every file that Example writes.
func TestExamplesAreValid(t *testing.T) {
	t.Parallel()
	for _, kind := range append(Examples(), "") {
		text, err := Example(kind)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "server.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Read(Options{Path: path})
		if err != nil {
			t.Errorf("%q: %v", kind, err)
		}
		for _, w := range s.Warnings {
			t.Errorf("%q: warning %q", kind, w)
		}
		if want := strings.HasPrefix(kind, "k8s"); (s.Runtime.Type == RuntimeKubernetes) != want {
			t.Errorf("%q: runtime %q", kind, s.Runtime.Type)
		}
	}
	if _, err := Example("podman"); err == nil || !strings.Contains(err.Error(), "docker-zh") {
		t.Errorf("an unknown kind: %v", err)
	}
}

// TestExamplesWithEverythingSet takes the marks away: every commented key must be a valid line of TOML.
func TestExamplesWithEverythingSet(t *testing.T) {
	t.Parallel()
	for _, kind := range append(Examples(), "") {
		text, err := Example(kind)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "# ") && line != "#\n" {
				line = strings.TrimPrefix(line, "#")
			}
			lines = append(lines, line)
		}
		var doc map[string]any
		if err := toml.Unmarshal([]byte(strings.Join(lines, "")), &doc); err != nil {
			t.Errorf("%q: %v", kind, err)
		}
		s := Default("~", ProcessServer)
		for _, k := range keys(&s, "~") {
			base, _, _ := strings.Cut(kind, "-")
			section := conf.SectionOf(k.Name)
			if k.About == "" || strings.Contains(" "+strings.Join(leftOut[base], " ")+" ", " "+section+" ") {
				continue
			}
			var at any = doc
			for part := range strings.SplitSeq(k.Name, ".") {
				table, _ := at.(map[string]any)
				at = table[part]
			}
			if at == nil {
				t.Errorf("%q: %s is not explained", kind, k.Name)
			}
		}
	}
}

// TestChinese looks for keys that nobody has translated, and for translations of keys that are gone.
func TestChinese(t *testing.T) {
	t.Parallel()
	s := Default("~", ProcessServer)
	known := map[string]bool{}
	for _, k := range keys(&s, "~") {
		if k.About == "" {
			continue
		}
		known[k.Name] = true
		if chinese[k.Name] == "" {
			t.Errorf("%s has no Chinese text", k.Name)
		}
		if h, ok := sectionTexts[conf.SectionOf(k.Name)]; !ok || (h.english == "") != (h.chinese == "") {
			t.Errorf("section %s has no heading in both languages", conf.SectionOf(k.Name))
		}
	}
	for name := range chinese {
		if !known[name] {
			t.Errorf("%s is translated and no key", name)
		}
	}
}
