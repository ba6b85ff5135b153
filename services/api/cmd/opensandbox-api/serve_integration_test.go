//go:build integration

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/secrettest"
)

// patience bounds every wait of these tests.
const patience = 30 * time.Second

// binary is the program under test.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run builds the program once for all tests.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "opensandbox-api-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "opensandbox-api")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// replica is one running api.
type replica struct {
	t              *testing.T
	address, admin string
	cmd            *exec.Cmd
	exited         chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

func (r *replica) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func (r *replica) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// apiKey and secret are those of every replica.
var apiKey, secret = secrettest.New("the API key"), secrettest.New("the shared secret")

func environment(t *testing.T, redis string, more ...string) []string {
	return append([]string{
		"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "OPENSANDBOX_SERVER_API_KEY=" + apiKey, "OPENSANDBOX_STORE_TYPE=redis",
		"OPENSANDBOX_STORE_REDIS_URL=redis://" + redis, "OPENSANDBOX_INTERNAL_SHARED_SECRET=" + secret, "OPENSANDBOX_SERVER_CREATE_WAIT_SECONDS=1",
	}, more...)
}

func start(t *testing.T, redis string) *replica {
	t.Helper()
	r := &replica{t: t, address: freeAddress(t), admin: freeAddress(t), exited: make(chan struct{})}
	_, port, _ := net.SplitHostPort(r.address)
	r.cmd = exec.Command(binary)
	r.cmd.Env = environment(t, redis, "OPENSANDBOX_SERVER_PORT="+port, "OPENSANDBOX_SERVER_ADMIN_LISTEN="+r.admin)
	r.cmd.Stdout, r.cmd.Stderr = r, r
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = r.cmd.Wait(); close(r.exited) }()
	t.Cleanup(func() { _ = r.cmd.Process.Kill(); <-r.exited })
	return r
}

var client = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// ask sends a request; err is not nil if nobody answers.
func (r *replica) ask(method, path, body string, header ...string) (status int, h http.Header, answer map[string]any, err error) {
	req, err := http.NewRequest(method, "http://"+r.address+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("OPEN-SANDBOX-API-KEY", apiKey)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	_ = json.Unmarshal(text, &answer) // not every answer is JSON
	return resp.StatusCode, resp.Header, answer, err
}

// eventually asks until the status is the wanted one.
func (r *replica) eventually(want int, method, path, body string, header ...string) (http.Header, map[string]any) {
	r.t.Helper()
	var last string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		status, h, answer, err := r.ask(method, path, body, header...)
		if err == nil && status == want {
			return h, answer
		}
		last = fmt.Sprint(status, answer, err)
	}
	r.t.Fatalf("%s %s: %s; want %d\n%s", method, path, last, want, r.logged())
	return nil, nil
}

func (r *replica) ready() (int, string) {
	resp, err := client.Get("http://" + r.admin + "/ready")
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

func (r *replica) eventuallyReady(want int) {
	r.t.Helper()
	var status int
	var text string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if status, text = r.ready(); status == want {
			return
		}
	}
	r.t.Fatalf("/ready: %d %s, want %d\n%s", status, text, want, r.logged())
}

const body = `{"image":{"uri":"busybox"},"entrypoint":["sleep","60"],"resourceLimits":{}}`

func TestReplicas(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	a, b := start(t, redis.Addr()), start(t, redis.Addr())
	a.eventually(http.StatusOK, "GET", "/health", "")
	b.eventually(http.StatusOK, "GET", "/health", "")
	a.eventuallyReady(http.StatusOK)

	// What one replica made, the other knows; a create that is repeated at the other joins.
	_, made := a.eventually(http.StatusAccepted, "POST", "/v1/sandboxes", body, "Idempotency-Key", "k", "Prefer", "respond-async")
	h, again := b.eventually(http.StatusAccepted, "POST", "/v1/sandboxes", " "+body, "Idempotency-Key", "k")
	if again["id"] != made["id"] || h.Get("Idempotent-Replayed") != "true" {
		t.Errorf("repeated at the other replica: %v, header %v; want %v", again, h, made)
	}
	_, got := b.eventually(http.StatusOK, "GET", fmt.Sprint("/v1/sandboxes/", made["id"]), "")
	if got["id"] != made["id"] {
		t.Errorf("the other replica has %v", got)
	}

	// Redis dies: 503 that say when to come back, and not ready; it returns, and so do the replicas by themselves.
	redis.Kill()
	for _, path := range []string{"/v1/sandboxes", fmt.Sprint("/v1/sandboxes/", made["id"])} {
		status, h, answer, err := a.ask("GET", path, "")
		if err != nil || status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" || answer["code"] == nil {
			t.Errorf("GET %s while Redis is away: %d %v %v, %v", path, status, h, answer, err)
		}
	}
	status, h, answer, err := a.ask("POST", "/v1/sandboxes", body)
	if err != nil || status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" || answer["sandboxId"] == nil {
		t.Errorf("create while Redis is away: %d %v %v, %v", status, h, answer, err)
	}
	a.eventuallyReady(http.StatusServiceUnavailable)
	redis.Start()
	a.eventually(http.StatusOK, "GET", fmt.Sprint("/v1/sandboxes/", made["id"]), "")
	b.eventually(http.StatusOK, "GET", fmt.Sprint("/v1/sandboxes/", made["id"]), "")
	a.eventuallyReady(http.StatusOK)

	// It hangs, with its connections open.
	redis.Freeze()
	status, h, answer, err = b.ask("GET", "/v1/sandboxes", "")
	if err != nil || status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" {
		t.Errorf("list while Redis hangs: %d %v %v, %v", status, h, answer, err)
	}
	redis.Thaw()
	b.eventually(http.StatusOK, "GET", "/v1/sandboxes", "")

	// SIGTERM ends it in order.
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.exited:
	case <-time.After(patience):
		t.Fatalf("does not end:\n%s", a.logged())
	}
	if code := a.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, a.logged())
	}
}

func TestConfigurationsThatDoNotServe(t *testing.T) {
	redis := freeAddress(t) // nobody listens there, and nobody asks
	for name, c := range map[string]struct {
		args []string
		env  []string
		code int
		text string
	}{
		"checked":   {[]string{"--check-config"}, environment(t, redis), 0, "configuration is valid"},
		"version":   {[]string{"--version"}, nil, 0, "dev"},
		"no key":    {[]string{"--check-config"}, environment(t, redis, "OPENSANDBOX_SERVER_API_KEY="), 0, "no API key"},
		"sqlite":    {nil, environment(t, redis, "OPENSANDBOX_STORE_TYPE=sqlite"), 1, `needs "redis"`},
		"no secret": {nil, environment(t, redis, "OPENSANDBOX_INTERNAL_SHARED_SECRET="), 1, "internal.shared_secret"},
		"bad flag":  {[]string{"--confg"}, nil, 2, "--config"},
	} {
		cmd := exec.Command(binary, c.args...)
		cmd.Env = c.env
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.text) {
			t.Errorf("%s: exit code %d\n%s\nwant %d and %q", name, code, out, c.code, c.text)
		}
	}
}
