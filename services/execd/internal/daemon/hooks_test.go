package daemon

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
}

// TestHookBeforeTheEntryPoint: execd answers while it runs, and the entry point starts only after its success. Not parallel: see
// TestEntryPointDecides.
func TestHookBeforeTheEntryPoint(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	run := func(port, hook, entry string) (int, string) {
		var out bytes.Buffer
		env := append(os.Environ(), "EXECD_ENVS="+file("env"), "HOME="+dir, "OPENSANDBOX_LIFECYCLE="+hook)
		code := Run([]string{"--init", "--port", port, "--", "sh", "-c", entry}, env, &out, &out)
		return code, out.String()
	}
	port := freePort(t)
	hook := fmt.Sprintf(`{"preStart":{"command":["sh","-c","while [ ! -e %s ]; do sleep 0.01; done; echo hook >>%s"]},
		"periodic":[{"name":"p","schedule":"@every 1s","command":["touch","%s"]}]}`, file("asked"), file("order"), file("periodic"))
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		wait(t, func() bool { return answers(port) })
		_ = os.WriteFile(file("asked"), nil, 0o600)
	}()
	code, out := run(port, hook, "echo entry >>"+file("order")+"; [ -z \"$OPENSANDBOX_LIFECYCLE\" ] || exit 8; while [ ! -e "+file("periodic")+" ]; do sleep 0.01; done; exit 6")
	<-asked
	if order, err := os.ReadFile(file("order")); code != 6 || err != nil || string(order) != "hook\nentry\n" {
		t.Errorf("got %d %q, order %q %v", code, out, order, err)
	}
	for hook, want := range map[string]string{
		`{"preStart":{"command":["sh","-c","exit 4"]}}`:                "hook preStart: exit status 4",
		`{"preStart":{"command":["sleep","1000"],"timeoutSeconds":1}}`: "hook preStart: not done within 1s",
		`{"preStart":{"command":["no-such-program"]}}`:                 "not found",
		`{"preStop":{}}`: "unknown field",
	} {
		if code, out := run(freePort(t), hook, "touch "+file("started")); code != 1 || !strings.Contains(out, want) {
			t.Errorf("%s: got %d %q, want 1 and %q", hook, code, out, want)
		}
	}
	if _, err := os.Stat(file("started")); err == nil {
		t.Error("the entry point started after a hook that failed")
	}
}

// TestSignalDuringTheHook: who stops a sandbox does not wait for its preparations.
func TestSignalDuringTheHook(t *testing.T) {
	dir := t.TempDir()
	running := filepath.Join(dir, "running")
	env := append(os.Environ(), "EXECD_ENVS="+filepath.Join(dir, "env"), "HOME="+dir,
		`OPENSANDBOX_LIFECYCLE={"preStart":{"command":["sh","-c","touch `+running+`; sleep 1000"]}}`)
	sent := make(chan error, 1)
	go func() {
		for {
			if _, err := os.Stat(running); err == nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		sent <- syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}()
	var out bytes.Buffer
	code := Run([]string{"--init", "--port", freePort(t), "--", "sleep", "1000"}, env, &out, &out)
	if err := <-sent; err != nil || code != 128+int(syscall.SIGTERM) || !strings.Contains(out.String(), "stopped by terminated") {
		t.Errorf("got %d %q, %v", code, out.String(), err)
	}
}

// TestHooksOutliveTheirVariable: a run with the variable keeps the hooks for one without it. Not parallel: see TestEntryPointDecides.
func TestHooksOutliveTheirVariable(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	hook := `OPENSANDBOX_LIFECYCLE={"preStart":{"command":["sh","-c","echo hook >>` + file("order") + `"]}}`
	run := func(variables ...string) (int, string) {
		var out bytes.Buffer
		env := append(append(os.Environ(), "EXECD_ENVS="+file("env"), "HOME="+dir), variables...)
		code := Run([]string{"--init", "--port", freePort(t), "--", "sh", "-c", "echo entry >>" + file("order")}, env, &out, &out)
		return code, out.String()
	}
	if err := os.WriteFile(file("plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		variables   []string
		code        int
		out, order  string
		description string
	}{
		{nil, 0, "", "entry", "no hooks"},
		{[]string{hook}, 0, "", "hook entry", "the variable"},
		{nil, 0, "", "hook entry", "its file"},
		{[]string{"EXECD_LIFECYCLE_CONFIG=" + file("other/hooks.toml")}, 0, "", "entry", "another file, which is missing"},
		{[]string{"EXECD_LIFECYCLE_CONFIG=" + file("other/hooks.toml"), hook}, 0, "", "hook entry", "the variable beside another file"},
		{[]string{"EXECD_LIFECYCLE_CONFIG=" + file("other/hooks.toml")}, 0, "", "hook entry", "that file"},
		{[]string{"EXECD_LIFECYCLE_CONFIG=" + file("plain/hooks.toml"), hook}, 1, "not a directory", "", "a file that was named and cannot be written"},
		{[]string{"EXECD_LIFECYCLE_CONFIG=" + file("env"), "EXECD_ENVS=" + file("env2")}, 1, "version: expected 1", "", "a file of something else"},
		{[]string{"HOME=" + file("plain"), hook}, 0, "the hooks are in their variable only", "hook entry", "a home that cannot be written"},
		{[]string{"OPENSANDBOX_LIFECYCLE={}"}, 0, "", "entry", "a variable without hooks"},
		{nil, 0, "", "entry", "its file"},
	} {
		code, out := run(tt.variables...)
		order, _ := os.ReadFile(file("order"))
		_ = os.Remove(file("order"))
		if code != tt.code || !strings.Contains(out, tt.out) || tt.out == "" && out != "" || strings.Join(strings.Fields(string(order)), " ") != tt.order {
			t.Errorf("%s: got %d %q, order %q; want %d %q, order %q", tt.description, code, out, order, tt.code, tt.out, tt.order)
		}
	}
}
