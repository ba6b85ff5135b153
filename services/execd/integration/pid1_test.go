//go:build integration

package integration

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestWithoutShell(t *testing.T) {
	t.Parallel()
	c := launch(t, scratchImage, "4321:4321", "/execd", "--port", "45000").ready()
	status, body := c.request("POST", "/command", secret, map[string]string{"command": "true"})
	if status != http.StatusOK || !strings.Contains(body, "no shell") {
		t.Errorf("shell command: got %d %s, want an event that says there is no shell", status, body)
	}
	_, body = c.request("POST", "/command", secret, map[string]any{"argv": []string{"/execd", "--version"}})
	if !strings.Contains(body, "execution_complete") {
		t.Errorf("argv command: got %s, want a completion", body)
	}
	if status, _ = c.request("GET", "/metrics", "wrong", nil); status != http.StatusUnauthorized {
		t.Errorf("wrong token: got %d, want 401", status)
	}
	docker(t, "kill", "-s", "TERM", c.name)
	if got := c.wait(); got != "0" {
		t.Errorf("got exit status %s, want 0: the entry point ends cleanly on SIGTERM", got)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	t.Parallel()
	c := launch(t, busyboxImage, "1234:1234", "sleep", "1000").ready()
	// Each subshell ends at once and leaves a child that ends soon after it.
	c.sh("for i in 1 2 3 4 5 6 7 8; do (sleep 0.1 &) ; done")
	deadline := time.Now().Add(20 * time.Second)
	for {
		out := c.sh("ps -o stat,comm | cat")
		if !strings.Contains(out, "Z") && strings.Count(out, "sleep") == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("zombies stayed:\n%s", out)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := c.sh("id -u"); got != "1234\n" {
		t.Errorf("commands run as %q, want the image user", got)
	}
	if got := c.sh("echo 'FOO=bar' >> $EXECD_ENVS; echo done"); got != "done\n" {
		t.Errorf("the environment file cannot be written: %q", got)
	}
	if got := c.sh("echo $FOO"); got != "bar\n" {
		t.Errorf("variable of the environment file: got %q", got)
	}
	if got := c.sh("env; cat /proc/1/environ /proc/1/cmdline /run/opensandbox/* 2>&1"); strings.Contains(got, secret) {
		t.Error("the token is visible inside the sandbox")
	}
	if got := docker(t, "exec", c.name, "/execd", "--health"); got != "" {
		t.Errorf("health probe says %q", got)
	}
}

// TestSingleFileMount writes to a file that cannot be replaced: the engine mounts /etc/hosts by itself.
func TestSingleFileMount(t *testing.T) {
	t.Parallel()
	c := launch(t, busyboxImage, "0:0", "sleep", "1000").ready()
	status, body := c.request("POST", "/files/replace?verbose=true", secret, map[string]any{"/etc/hosts": map[string]string{"old": "localhost", "new": "here"}})
	if status != http.StatusOK {
		t.Fatalf("replace: %d %s", status, body)
	}
	if got := c.sh("cat /etc/hosts; ls -a /etc"); !strings.Contains(got, "here") || strings.Contains(got, "opensandbox-upload") {
		t.Errorf("after replace:\n%s", got)
	}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		entry []string
		want  string
		log   string
	}{
		{"code", []string{"sh", "-c", "echo out; sleep 0.1; exit 42"}, "42", "out"},
		{"at once", []string{"sh", "-c", "echo bad >&2; exit 3"}, "3", "bad"},
		{"signal", []string{"sh", "-c", "sleep 0.1; kill -9 $$"}, "137", ""},
		{"one string", []string{"sh -c 'echo \"a  b\"; exit 5'"}, "5", "a  b"},
		{"missing", []string{"nope"}, "127", `entry point "nope": executable file not found in PATH`},
		{"missing path", []string{"/no/such"}, "127", `entry point "/no/such"`},
		{"not executable", []string{"/etc/passwd"}, "126", `entry point "/etc/passwd"`},
		{"left-over children", []string{"sh", "-c", "sleep 1000 & sleep 1000 & sleep 0.1; exit 6"}, "6", ""},
		{"stdin is empty", []string{"sh", "-c", "cat; sleep 0.1; exit 8"}, "8", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := launch(t, busyboxImage, "1234:1234", tt.entry...)
			if got := c.wait(); got != tt.want {
				t.Errorf("got exit status %s, want %s; logs:\n%s", got, tt.want, c.logs())
			}
			if logs := c.logs(); !strings.Contains(logs, tt.log) || strings.Contains(logs, secret) {
				t.Errorf("logs %q, want %q in them and no token", logs, tt.log)
			}
		})
	}
}

func TestSignalsReachTheGroup(t *testing.T) {
	t.Parallel()
	for _, sig := range []string{"TERM", "HUP", "INT", "USR1", "USR2", "QUIT", "WINCH"} {
		t.Run(sig, func(t *testing.T) {
			t.Parallel()
			c := launch(t, busyboxImage, "1234:1234", "sh", "-c", "trap 'exit 9' "+sig+"; touch /tmp/set; while :; do sleep 0.05; done").ready()
			for c.sh("ls /tmp") != "set\n" {
				time.Sleep(10 * time.Millisecond)
			}
			docker(t, "kill", "-s", sig, c.name)
			if got := c.wait(); got != "9" {
				t.Errorf("got exit status %s, want 9", got)
			}
		})
	}
}

// TestStopIsOrderly has the engine stop containers, with more patience than execd has.
func TestStopIsOrderly(t *testing.T) {
	t.Parallel()
	const deaf = "trap '' TERM; touch /tmp/set; while :; do sleep 0.05; done"
	tests := []struct {
		name, entry, beside, want string
		told, killed              bool
	}{
		{"ends", "trap 'exit 9' TERM; touch /tmp/set; while :; do sleep 0.05; done", "trap 'touch /tmp/told; exit' TERM; touch /tmp/beside; while :; do sleep 0.05; done", "9", true, false},
		{"is deaf", deaf, "trap 'touch /tmp/told; exit' TERM; touch /tmp/beside; while :; do sleep 0.05; done", "137", true, true},
		{"all are deaf", deaf, "trap '' TERM; touch /tmp/beside; while :; do sleep 0.05; done", "137", false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := launch(t, busyboxImage, "1234:1234", "sh", "-c", tt.entry).ready()
			status, body := c.request("POST", "/command", secret, map[string]any{"command": tt.beside, "background": true})
			if status != http.StatusOK {
				t.Fatalf("background: %d %s", status, body)
			}
			for end := time.Now().Add(30 * time.Second); c.sh("ls /tmp/set /tmp/beside | cat") != "/tmp/beside\n/tmp/set\n"; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the processes do not get ready")
				}
			}
			docker(t, "stop", "-t", "600", c.name)
			if got := c.wait(); got != tt.want {
				t.Errorf("got exit status %s, want %s", got, tt.want)
			}
			if killed := strings.Contains(c.logs(), "it goes on after SIGTERM"); killed != tt.killed {
				t.Errorf("killed %t, want %t; logs:\n%s", killed, tt.killed, c.logs())
			}
			if err := exec.Command("docker", "cp", c.name+":/tmp/told", "-").Run(); (err == nil) != tt.told {
				t.Errorf("the command beside the entry point: %v, want it told: %t", err, tt.told)
			}
		})
	}
}

// TestClone3IsHidden: what the sandbox starts has the filter, and can gain no privileges any more.
func TestClone3IsHidden(t *testing.T) {
	for value, want := range map[string]string{"no": "NoNewPrivs:\t0\n", "1": "NoNewPrivs:\t1\n"} {
		t.Run(value, func(t *testing.T) {
			c := open(t, "-e", "EXECD_CLONE3_COMPAT="+value)
			if got := c.sh("busybox grep NoNewPrivs /proc/self/status"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
