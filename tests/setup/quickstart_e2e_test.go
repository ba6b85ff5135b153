//go:build e2e

package setup

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"opensandbox/libs/secrettest"
)

// TestQuickstart runs the quick start twice, as a person would, and then the lines that it prints.
func TestQuickstart(t *testing.T) {
	venv := os.Getenv("OPENSANDBOX_TEST_VENV")
	if venv == "" {
		t.Fatal("OPENSANDBOX_TEST_VENV is not set: run make e2e")
	}
	home := t.TempDir()
	env := append(os.Environ(), "OPENSANDBOX_HOME="+home, "PATH="+filepath.Join(venv, "bin")+":"+os.Getenv("PATH"))
	t.Cleanup(func() { shell(t, env, "../../scripts/quickstart.sh stop") })
	settings := regexp.MustCompile(`(?m)^  (?:URL|key) +(\S+)$`)

	first := shell(t, env, "../../scripts/quickstart.sh start")
	if !strings.Contains(first, "\n  hello from ") {
		t.Fatalf("no output of the command in:\n%s", first)
	}
	was := settings.FindAllStringSubmatch(first, -1)
	if len(was) != 2 {
		t.Fatalf("no URL and key in:\n%s", first)
	}
	url, key := was[0][1], was[1][1]
	secrettest.Note("the key of the quick start", key)
	t.Cleanup(func() {
		log, err := os.ReadFile(filepath.Join(home, "server.log"))
		if err != nil || len(log) == 0 {
			t.Errorf("the log of the server: %d bytes, %v", len(log), err)
		}
		secrettest.Absent(t, "the log of the server", log)
	})
	t.Cleanup(func() {
		for _, id := range sandboxes(t, url, key) {
			call(t, http.MethodDelete, url+"/v1/sandboxes/"+id, key, nil)
		}
	})
	made := shell(t, env, between(t, first, "SANDBOX=", "\n\nand with Python"))
	if !strings.Contains(made, `"stdout"`) || !strings.Contains(made, "hello from ") {
		t.Errorf("the lines for curl print:\n%s", made)
	}

	second := shell(t, env, "../../scripts/quickstart.sh start")
	is := settings.FindAllStringSubmatch(second, -1)
	if len(is) != 2 || is[0][1] != url || is[1][1] != key {
		t.Fatalf("URL and key: first %q and %q, then %q", url, key, is)
	}
	if got := sandboxes(t, url, key); len(got) != 1 {
		t.Errorf("sandboxes after the restart: %q, want the one that curl made", got)
	}
	if got := shell(t, env, between(t, second, "python3 ", "\nPY\n")+"\nPY\n"); !strings.Contains(got, "hello from ") {
		t.Errorf("the lines for Python print:\n%s", got)
	}
}

func shell(t *testing.T, env []string, text string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "bash", "-euo", "pipefail", "-c", text)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", text, err, out)
	}
	return string(out)
}

// between returns the part of text from start up to end.
func between(t *testing.T, text, start, end string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n"+start)
	part, _, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("no part from %q to %q in:\n%s", start, end, text)
	}
	return start + part
}

func sandboxes(t *testing.T, url, key string) []string {
	t.Helper()
	var page struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	call(t, http.MethodGet, url+"/v1/sandboxes", key, &page)
	ids := make([]string, 0, len(page.Items))
	for _, item := range page.Items {
		ids = append(ids, item.ID)
	}
	return ids
}

func call(t *testing.T, method, url, key string, result any) {
	t.Helper()
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("OPEN-SANDBOX-API-KEY", key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s", method, url, response.Status)
	}
	if result == nil {
		return
	}
	if err := json.NewDecoder(response.Body).Decode(result); err != nil {
		t.Fatal(err)
	}
}
