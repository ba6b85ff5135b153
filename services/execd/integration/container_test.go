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
	"runtime"
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
	if err := build(bin, runtime.GOARCH); err != nil {
		return err
	}
	if err := importImage(scratchImage, map[string]string{"execd": bin}, nil); err != nil {
		return err
	}
	return importImage(busyboxImage, map[string]string{"execd": bin, "bin/busybox": "/bin/busybox"}, links)
}

// links are the programs of busybox that images have under their own names.
var links = []string{"sh", "sleep", "id", "cat", "env", "ps", "kill", "touch", "ls", "true"}

// build makes the daemon for a processor.
func build(bin, arch string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "../cmd/opensandbox-execd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build for %s: %w\n%s", arch, err, out)
	}
	return nil
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

// open starts a daemon without a token, in a container with the options of the engine.
func open(t *testing.T, options ...string) *container {
	t.Helper()
	name := nameOf(t)
	args := append([]string{"run", "-d", "--name", name, "--tmpfs", "/run/opensandbox:mode=1777"}, options...)
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "-f", name).Run() })
	docker(t, append(args, busyboxImage, "/execd", "--init", "--", "sleep", "100000")...)
	return (&container{t: t, name: name}).ready()
}
