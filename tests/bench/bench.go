package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/client"
)

// image is built by scripts/images.sh.
const image = "opensandbox/busybox:dev"

const apiKey = "bench"

// bench is one run.
type bench struct {
	ctx     context.Context
	binary  string
	execd   string
	out     string
	dir     string
	docker  *client.Client
	http    *http.Client
	base    string
	server  *exec.Cmd
	results []result
	// filled are the ids of the records that fill has written.
	filled []string
}

// newBench prepares a run; each section starts what it needs.
func newBench(ctx context.Context, server, execd, out string) (*bench, error) {
	server, err := filepath.Abs(server)
	if err != nil {
		return nil, err
	}
	if execd, err = filepath.Abs(execd); err != nil {
		return nil, err
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "opensandbox-bench-")
	if err != nil {
		return nil, err
	}
	return &bench{ctx: ctx, binary: server, execd: execd, out: out, dir: dir, docker: docker,
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, MaxConnsPerHost: 256}, Timeout: 2 * time.Minute}}, nil
}

// start runs the server and waits until it answers.
func (b *bench) start() error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(address)
	b.base = "http://" + address
	config := fmt.Sprintf("[server]\nhost = \"127.0.0.1\"\nport = %s\napi_key = %q\nadmin_listen = \"\"\n[docker]\nnetwork_mode = \"bridge\"\n[store]\npath = %q\n[agent]\nstate_dir = %q\nnode = \"bench\"\n",
		port, apiKey, b.store(), filepath.Join(b.dir, "state"))
	path := filepath.Join(b.dir, "server.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(b.out, "server.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	b.server = exec.Command(b.binary, "--config", path)
	b.server.Stdout, b.server.Stderr = log, log
	if err := b.server.Start(); err != nil {
		return err
	}
	for range 15_000 {
		if res, err := b.http.Get(b.base + "/health"); err == nil {
			_ = res.Body.Close()
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return fmt.Errorf("the server never answered; see %s", log.Name())
}

func (b *bench) store() string { return filepath.Join(b.dir, "data", "store.db") }

func (b *bench) stop() error {
	if b.server == nil || b.server.Process == nil {
		return nil
	}
	_ = b.server.Process.Signal(syscall.SIGTERM)
	err := b.server.Wait()
	b.server = nil
	return err
}

// close removes everything that the run has made.
func (b *bench) close() {
	if b.server != nil {
		for _, id := range b.list() {
			if strings.HasPrefix(id, madeUp) {
				continue // a record without a sandbox: its node does not exist
			}
			_, _, _ = b.call("DELETE", "/v1/sandboxes/"+id, nil)
		}
		_ = b.stop()
	}
	id, _ := os.ReadFile(filepath.Join(b.dir, "data", "installation.id"))
	if owner := strings.TrimSpace(string(id)); owner != "" {
		for _, kind := range []string{"volume", "image"} {
			out, _ := exec.Command("docker", kind, "ls", "-q", "--filter", "label=dev.opensandbox.execd-of="+owner).Output()
			for _, name := range strings.Fields(string(out)) {
				_ = exec.Command("docker", kind, "rm", name).Run()
			}
		}
	}
	_ = os.RemoveAll(b.dir)
	_ = b.docker.Close()
}

// call sends a request to the server and returns status and body.
func (b *bench) call(method, path string, body any) (int, []byte, error) {
	var r io.Reader
	if body != nil {
		j, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		r = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(b.ctx, method, b.base+path, r)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("OPEN-SANDBOX-API-KEY", apiKey)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := b.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	return res.StatusCode, out, err
}

type m = map[string]any

// Limits of every container of a run, ours and raw.
const (
	cpus   = "1"
	memory = "128Mi"
)

// create makes a sandbox that must be Running.
func (b *bench) create() (string, error) {
	status, body, err := b.call("POST", "/v1/sandboxes", m{"image": m{"uri": image}, "entrypoint": []string{"tail", "-f", "/dev/null"}, "timeout": 3600,
		"resourceLimits": m{"cpu": cpus, "memory": memory}})
	if err != nil {
		return "", err
	}
	if status != http.StatusAccepted {
		return "", fmt.Errorf("create: %d %s", status, body)
	}
	s, err := sandboxOf(body)
	for err == nil && s.Status.State == "Pending" { // the engine took longer than a create waits
		if err = b.pause(); err == nil {
			s, err = b.get(s.ID)
		}
	}
	if err == nil && s.Status.State != "Running" {
		err = fmt.Errorf("create: %s is %s", s.ID, s.Status.State)
	}
	return s.ID, err
}

// seen is what the bench reads of a sandbox.
type seen struct {
	ID     string
	Status struct{ State string }
}

func sandboxOf(body []byte) (s seen, err error) {
	if err = json.Unmarshal(body, &s); err != nil || s.ID == "" {
		err = fmt.Errorf("not a sandbox: %s", body)
	}
	return s, err
}

func (b *bench) get(id string) (seen, error) {
	_, body, err := b.call("GET", "/v1/sandboxes/"+id, nil)
	if err != nil {
		return seen{}, err
	}
	return sandboxOf(body)
}

// pause is how long a client waits before it asks again.
func (b *bench) pause() error {
	select {
	case <-b.ctx.Done():
		return b.ctx.Err()
	case <-time.After(10 * time.Millisecond):
		return nil
	}
}

// remove deletes until nothing is left: a delete that takes longer than the server waits is joined by the next.
func (b *bench) remove(id string) error {
	for {
		status, body, err := b.call("DELETE", "/v1/sandboxes/"+id, nil)
		switch {
		case err != nil:
			return err
		case status == http.StatusNoContent, status == http.StatusNotFound:
			return nil
		case status != http.StatusServiceUnavailable:
			return fmt.Errorf("delete: %d %s", status, body)
		}
		if err := b.pause(); err != nil {
			return err
		}
	}
}

func (b *bench) list() []string {
	_, body, _ := b.call("GET", "/v1/sandboxes?pageSize=200", nil)
	var l struct{ Items []struct{ ID string } }
	_ = json.Unmarshal(body, &l)
	var ids []string
	for _, i := range l.Items {
		ids = append(ids, i.ID)
	}
	return ids
}

// daemonPort is where the daemon in each sandbox listens.
const daemonPort = 44772

// endpoint returns the URL of a sandbox's port, and the token if it needs one.
func (b *bench) endpoint(id string, port int) (url, token string, err error) {
	_, body, err := b.call("GET", fmt.Sprintf("/v1/sandboxes/%s/endpoints/%d", id, port), nil)
	if err != nil {
		return "", "", err
	}
	var e struct {
		Endpoint string
		Headers  map[string]string
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Endpoint == "" {
		return "", "", fmt.Errorf("endpoint: %s", body)
	}
	return "http://" + e.Endpoint, e.Headers["X-EXECD-ACCESS-TOKEN"], nil
}

// command runs a command of the shell and returns when its stream has ended.
func (b *bench) command(url, token, command string) error {
	return b.post(url, token, fmt.Appendf(nil, `{"command":%q}`, command))
}

// post runs the command of a request's body and returns when its stream has ended.
func (b *bench) post(url, token string, body []byte) error {
	req, err := http.NewRequestWithContext(b.ctx, "POST", url+"/command", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-EXECD-ACCESS-TOKEN", token)
	res, err := b.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err == nil && !bytes.Contains(out, []byte("execution_complete")) {
		err = fmt.Errorf("command: %s", out)
	}
	return err
}
