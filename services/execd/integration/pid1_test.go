//go:build integration

// Package integration runs the real binary as the init process of real containers.
package integration

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/secrettest"
)

// suffix keeps the names of parallel runs on one engine apart.
var suffix = fmt.Sprintf("%d", os.Getpid())

var (
	scratchImage = "execdtest-scratch:" + suffix
	busyboxImage = "execdtest-busybox:" + suffix
)

var secret = secrettest.New("the token of the daemons")

// A kept connection could belong to an earlier container with the same address, and would hang: its end was never announced.
var (
	client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	probe  = &http.Client{Transport: client.Transport, Timeout: 2 * time.Second}
)

func TestMain(m *testing.M) {
	if url := os.Getenv(pingVariable); url != "" {
		os.Exit(ping(url))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "execdtest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := buildImages(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer exec.Command("docker", "rmi", "-f", scratchImage, busyboxImage).Run()
	return m.Run()
}

func buildImages(dir string) error {
	bin := filepath.Join(dir, "execd")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "../cmd/opensandbox-execd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	if err := importImage(scratchImage, map[string]string{"execd": bin}, nil); err != nil {
		return err
	}
	links := []string{"sh", "sleep", "id", "cat", "env", "ps", "kill", "touch", "ls", "true"}
	return importImage(busyboxImage, map[string]string{"execd": bin, "bin/busybox": "/bin/busybox"}, links)
}

// importImage makes an image of the files, with /bin links to busybox, a world-writable /tmp and a user called worker.
func importImage(name string, files map[string]string, links []string) error {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	add := func(h *tar.Header, data []byte) {
		h.Size = int64(len(data))
		_ = tw.WriteHeader(h)
		_, _ = tw.Write(data)
	}
	for _, d := range []string{"bin/", "etc/", "proc/", "dev/", "sys/", "run/"} {
		add(&tar.Header{Name: d, Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	add(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	add(&tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0::/:/bin/sh\nworker:x:1234:1234::/tmp:/bin/sh\n"))
	for inside, outside := range files {
		data, err := os.ReadFile(outside)
		if err != nil {
			return err
		}
		add(&tar.Header{Name: inside, Mode: 0o755}, data)
	}
	for _, l := range links {
		add(&tar.Header{Name: "bin/" + l, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
	}
	if err := tw.Close(); err != nil {
		return err
	}
	cmd := exec.Command("docker", "import", "-", name)
	cmd.Stdin = &buf
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("docker import: %w\n%s", err, out)
	}
	return nil
}

// container is a running sandbox.
type container struct {
	t    *testing.T
	name string
	url  string
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// nameOf names the container of a test.
func nameOf(t *testing.T) string {
	return "execdtest-" + suffix + "-" + strings.NewReplacer("/", "-", " ", "-").Replace(strings.ToLower(t.Name()))
}

// launch creates a container, hands the token over through stdin and starts it.
func launch(t *testing.T, image, user string, entry ...string) *container {
	t.Helper()
	name := nameOf(t)
	args := []string{
		"create", "-i", "--name", name, "--user", user, "--tmpfs", "/run/opensandbox:mode=1777", image,
		"/execd", "--token-stdin", "--init", "--",
	}
	docker(t, append(args, entry...)...)
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "-f", name).Run() })
	attach := exec.Command("docker", "start", "-a", "-i", name)
	var said bytes.Buffer
	attach.Stdout, attach.Stderr = &said, &said
	in, err := attach.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := attach.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, `{"token":"`+secret+`"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("docker", "kill", name).Run()
		if err := attach.Wait(); err != nil && t.Failed() {
			t.Logf("docker start: %v\n%s", err, said.String())
		}
	})
	return &container{t: t, name: name}
}

// ready waits until the daemon answers.
func (c *container) ready() *container {
	c.t.Helper()
	var last error
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		out, err := exec.Command("docker", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", c.name).Output()
		if ip := strings.TrimSpace(string(out)); err == nil && ip != "" {
			c.url = "http://" + ip + ":44772"
			res, err := probe.Get(c.url + "/ping")
			if err == nil {
				res.Body.Close()
				if res.StatusCode == http.StatusOK {
					return c
				}
			}
			last = err
		}
		time.Sleep(20 * time.Millisecond)
	}
	state, _ := exec.Command("docker", "inspect", "-f", "{{json .State}} {{.NetworkSettings.IPAddress}}", c.name).CombinedOutput()
	pid, _ := exec.Command("docker", "inspect", "-f", "{{.State.Pid}}", c.name).Output()
	process, _ := exec.Command("sh", "-c", `cd "/proc/$1" && cat status net/tcp; cat task/*/wchan`, "sh", strings.TrimSpace(string(pid))).CombinedOutput()
	c.t.Fatalf("not ready: %v; state %s; process:\n%s\nlogs:\n%s", last, state, process, c.logs())
	return nil
}

func (c *container) logs() string {
	out, _ := exec.Command("docker", "logs", c.name).CombinedOutput()
	return string(out)
}

// wait returns the exit status of the container.
func (c *container) wait() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		if s := docker(c.t, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", c.name); strings.HasPrefix(s, "exited ") {
			return strings.TrimPrefix(s, "exited ")
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.t.Fatal("the container did not exit")
	return ""
}

func (c *container) request(method, path, token string, body any) (int, string) {
	c.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	req, err := http.NewRequest(method, c.url+path, bytes.NewReader(b))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("X-EXECD-ACCESS-TOKEN", token)
	res, err := client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, string(out)
}

// sh runs a shell command in the sandbox and returns its stdout.
func (c *container) sh(script string) string {
	c.t.Helper()
	status, stream := c.request("POST", "/command", secret, map[string]string{"command": script})
	if status != http.StatusOK {
		c.t.Fatalf("%s: %d %s", script, status, stream)
	}
	var out strings.Builder
	for frame := range strings.SplitSeq(stream, "\n\n") {
		var e struct{ Type, Text string }
		if frame != "" && json.Unmarshal([]byte(frame), &e) == nil && e.Type == "stdout" {
			out.WriteString(e.Text)
		}
	}
	return out.String()
}

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
