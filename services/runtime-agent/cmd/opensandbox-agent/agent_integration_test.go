//go:build integration

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"opensandbox/libs/agentrpc"
	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
)

const (
	// testImage is built by scripts/images.sh.
	testImage = "opensandbox/busybox:dev"
	// patience bounds every wait.
	patience = 30 * time.Second
)

// secret is what the agents share, and hidden is in the environment of sandboxes.
var secret, hidden = secrettest.New("the shared secret"), secrettest.New("a value of the environment")

// bed is a Redis, an engine and the programs of one installation.
type bed struct {
	t            *testing.T
	program      string
	execd        string
	installation string
	redis        string
	store        *redisstore.Store
}

func newBed(t *testing.T) *bed {
	t.Helper()
	dir := t.TempDir()
	b := &bed{t: t, program: filepath.Join(dir, "opensandbox-agent"), execd: filepath.Join(dir, "execd"), installation: "t-" + strings.ToLower(rand.Text()[:10])}
	for out, pkg := range map[string]string{b.program: ".", b.execd: "opensandbox/services/execd/cmd/opensandbox-execd"} {
		cmd := exec.Command("go", "build", "-o", out, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, text)
		}
	}
	server := redistest.Start(t, redistest.Options{})
	b.redis = server.Addr()
	client, err := redisstore.NewClient(redisstore.ClientConfig{Mode: redisstore.ModeSingle, Addrs: []string{b.redis}})
	if err != nil {
		t.Fatal(err)
	}
	if b.store, err = redisstore.Open(t.Context(), redisstore.Config{Client: client, Installation: b.installation}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.clean)
	return b
}

// clean removes what the installation has made on the engine.
func (b *bed) clean() {
	_ = b.store.Close()
	filter := "label=dev.opensandbox.installation=" + b.installation
	for _, c := range strings.Fields(b.docker("ps", "-aq", "--filter", filter)) {
		b.docker("rm", "-f", c)
	}
	owned := "label=dev.opensandbox.execd-of=" + b.installation
	for _, v := range strings.Fields(b.docker("volume", "ls", "-q", "--filter", owned)) {
		b.docker("volume", "rm", v)
	}
	for _, i := range strings.Fields(b.docker("images", "-q", "--filter", owned)) {
		b.docker("rmi", "-f", i)
	}
}

func (b *bed) docker(args ...string) string {
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		b.t.Errorf("docker %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// execution is one process.
type execution struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

func (r *execution) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

func (r *execution) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// exit waits for the end and returns the exit code.
func (r *execution) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-r.done:
		return r.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("it does not end:\n%s", r.said())
		return -1
	}
}

// start runs the program with a state directory. The node's name is in front of each variable's value.
func (b *bed) start(node, state string, args ...string) *execution {
	b.t.Helper()
	r := &execution{cmd: exec.Command(b.program, args...), done: make(chan struct{})}
	r.cmd.Env = []string{
		"HOME=" + state, "PATH=" + os.Getenv("PATH"), "OPENSANDBOX_STORE_TYPE=redis", "OPENSANDBOX_STORE_REDIS_URL=redis://" + b.redis,
		"OPENSANDBOX_SERVER_INSTALLATION_ID=" + b.installation, "OPENSANDBOX_INTERNAL_SHARED_SECRET=" + secret, "OPENSANDBOX_AGENT_EXECD_PATH=" + b.execd,
		"OPENSANDBOX_AGENT_STATE_DIR=" + state, "OPENSANDBOX_AGENT_NODE=" + node, "OPENSANDBOX_AGENT_LISTEN=127.0.0.1:0", "OPENSANDBOX_AGENT_LABELS=zone=x",
		"OPENSANDBOX_SERVER_ADMIN_LISTEN=127.0.0.1:0", "OPENSANDBOX_DOCKER_PUBLISH_HOST=127.0.0.1", "OPENSANDBOX_AGENT_CAPACITY_CPU=2",
	}
	r.cmd.Stdout, r.cmd.Stderr = r, r
	if err := r.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	go func() { _ = r.cmd.Wait(); close(r.done) }()
	b.t.Cleanup(func() { _ = r.cmd.Process.Kill(); <-r.done })
	return r
}

// until polls.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// serving waits until the agent drives its engine.
func (r *execution) serving(t *testing.T) {
	t.Helper()
	until(t, "serving", func() bool {
		select {
		case <-r.done:
			t.Fatalf("it ended:\n%s", r.said())
		default:
		}
		return strings.Contains(r.said(), "driving the container engine")
	})
}

// create places a sandbox on the node and waits until it runs.
func (b *bed) create(node string) sandbox.Record {
	b.t.Helper()
	id := sandbox.ID("t-" + strings.ToLower(rand.Text()))
	port := freePort(b.t)
	_, err := b.store.Insert(b.t.Context(), sandbox.New{ID: id, Spec: sandbox.Spec{Image: testImage, Entrypoint: []string{"sh", "-c", "echo hello; exec tail -f /dev/null"},
		Limits: sandbox.Resources{Memory: 64 << 20}, Env: map[string]string{"PASSWORD": hidden}}})
	if err == nil {
		_, err = b.store.Place(b.t.Context(), sandbox.PlaceRequest{ID: id, Ports: []int{sandbox.ExecdPort}, Candidates: []sandbox.Candidate{{Node: node, PortMin: port, PortMax: port}}})
	}
	if err != nil {
		b.t.Fatal(err)
	}
	var rec sandbox.Record
	until(b.t, "Running", func() bool {
		if rec, err = b.store.Get(b.t.Context(), id); err != nil {
			b.t.Fatal(err)
		}
		return rec.Observed.State == sandbox.StateRunning
	})
	return rec
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestAnAgentOnRedisAndDocker(t *testing.T) {
	b := newBed(t)
	state := t.TempDir()
	first := b.start("n", state)
	first.serving(t)

	nodes, err := b.store.Nodes(t.Context())
	if err != nil || len(nodes) != 1 || nodes[0].Platform == "" || len(nodes[0].Runtimes) == 0 || nodes[0].Host != "127.0.0.1" || nodes[0].Labels["zone"] != "x" || nodes[0].Capacity.CPU != 2000 {
		t.Fatalf("nodes %+v, %v", nodes, err)
	}
	until(t, "images", func() bool {
		nodes, err := b.store.Nodes(t.Context())
		return err == nil && strings.Contains(fmt.Sprint(nodes[0].Images), "docker.io/"+testImage)
	})
	rec := b.create("n")
	b.liveReads(&rec)

	for name, second := range map[string]*execution{"one name": b.start("n", t.TempDir()), "one engine": b.start("m", t.TempDir()), "one directory": b.start("n", state)} {
		if code := second.exit(t); code != 1 || !strings.Contains(second.said(), "opensandbox-agent: ") {
			t.Errorf("two agents with %s: exit code %d\n%s", name, code, second.said())
		}
	}
	listed := b.start("n", t.TempDir(), "nodes")
	if code := listed.exit(t); code != 0 || !strings.Contains(listed.said(), "ready") || !strings.Contains(listed.said(), "zone=x") {
		t.Errorf("nodes: exit code %d\n%s", code, listed.said())
	}

	// Killed, and started again: it takes its node over at once, and the sandbox is as it was.
	_ = first.cmd.Process.Kill()
	<-first.done
	again := b.start("n", state)
	again.serving(t)
	if got, err := b.store.Get(t.Context(), rec.ID); err != nil || got.Observed.State != sandbox.StateRunning {
		t.Errorf("after the restart: %+v, %v", got.Observed, err)
	}

	// Removed: it stops what it has, and ends.
	asked := b.start("n", t.TempDir(), "remove")
	if code := asked.exit(t); code != 2 || !strings.Contains(asked.said(), "gives up the 1 sandboxes") {
		t.Errorf("remove without --yes: exit code %d\n%s", code, asked.said())
	}
	if done := b.start("n", t.TempDir(), "remove", "--yes", "n"); done.exit(t) != 0 {
		t.Errorf("remove: %s", done.said())
	}
	if code := again.exit(t); code != 1 || !strings.Contains(again.said(), "was removed") {
		t.Errorf("the agent of a removed node: exit code %d\n%s", code, again.said())
	}
	if out := b.docker("ps", "-q", "--filter", "label=dev.opensandbox.installation="+b.installation); strings.TrimSpace(out) != "" {
		t.Errorf("still running: %s", out)
	}

	// Started once more it is an ordinary node, which stops in order.
	last := b.start("n", state)
	last.serving(t)
	_ = last.cmd.Process.Signal(syscall.SIGTERM)
	if code := last.exit(t); code != 0 {
		t.Errorf("SIGTERM: exit code %d\n%s", code, last.said())
	}
	for _, r := range []*execution{first, again, last} {
		secrettest.Absent(t, "the log", r.said())
	}
}

// liveReads looks at a sandbox as the api does.
func (b *bed) liveReads(rec *sandbox.Record) {
	b.t.Helper()
	client, err := agentrpc.NewClient(b.store, secret)
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	ref := agentrpc.RefOf(rec)
	until(b.t, "a line of the entry point", func() bool {
		lines, err := client.Logs(ctx, ref, 10)
		return err == nil && len(lines) == 1 && lines[0] == "hello"
	})
	in, err := client.Inspect(ctx, ref)
	if err != nil || in.Phase != executor.Running || in.Image != testImage || in.Limits.Memory != 64<<20 || in.Addresses.Ports[sandbox.ExecdPort] == 0 || in.StartedAt.IsZero() {
		b.t.Errorf("Inspect = %+v, %v", in, err)
	}
	events, err := client.Events(ctx, ref, 10)
	if err != nil || len(events) < 2 || events[0].Action != executor.ActionCreated || events[1].Action != executor.ActionStarted {
		b.t.Errorf("Events = %+v, %v", events, err)
	}
	ref.Epoch++
	if _, err := client.Inspect(ctx, ref); !fault.Is(err, fault.NotFound) {
		b.t.Errorf("another epoch: %v", err)
	}
	forger, err := agentrpc.NewClient(b.store, secrettest.New("another shared secret"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer forger.Close()
	if _, err := forger.Inspect(ctx, agentrpc.RefOf(rec)); err == nil || !strings.Contains(err.Error(), "401") {
		b.t.Errorf("a forged call: %v", err)
	}
}
