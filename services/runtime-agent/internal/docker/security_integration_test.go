//go:build integration

package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
)

// start runs a sandbox and returns it once it is ready.
func start(t *testing.T, e *Engine, change func(*executor.Plan)) (executor.Plan, executor.Instance) {
	t.Helper()
	p := executor.Plan{Ref: executor.Ref{ID: newID(), Epoch: 1}, CreatedAt: time.Now(), Image: testImage,
		Entrypoint: []string{"tail", "-f", "/dev/null"}, Ports: freePorts(t), Token: secrettest.New("the token of a daemon"), Limits: sandbox.Resources{CPU: 500, Memory: 64 << 20}}
	if change != nil {
		change(&p)
	}
	t.Cleanup(func() {
		if err := e.Remove(context.WithoutCancel(t.Context()), p.Ref); err != nil {
			t.Error(err)
		}
	})
	if err := e.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		in, err := e.Inspect(t.Context(), p.ID)
		if err == nil && e.Ready(t.Context(), in) == nil {
			return p, in
		}
		if time.Now().After(deadline) {
			t.Fatalf("never ready: %+v %v", in, err)
		}
	}
}

// inside runs a command in a container and returns its output and exit code.
func inside(t *testing.T, e *Engine, name string, command ...string) (string, int) {
	t.Helper()
	ctx := t.Context()
	x, err := e.api.ContainerExecCreate(ctx, name, container.ExecOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := e.api.ContainerExecAttach(ctx, x.ID, container.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, conn.Reader); err != nil {
		t.Fatal(err)
	}
	done, err := e.api.ContainerExecInspect(ctx, x.ID)
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), done.ExitCode
}

func TestTheTokenIsNotInTheEngine(t *testing.T) {
	e := open(t, nil)
	p, in := start(t, e, nil)
	c, err := e.api.ContainerInspect(t.Context(), containerName(p.ID))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte(p.Token)) {
		t.Error("the token can be read from the engine")
	}
	if out, _ := inside(t, e, containerName(p.ID), "sh", "-c", "cat /proc/1/environ /proc/1/cmdline; env"); strings.Contains(out, p.Token) {
		t.Error("the token is in the daemon's environment or arguments")
	}
	url := fmt.Sprintf("http://%s:44772/files/info?path=/", in.Addresses.ContainerIP)
	for token, want := range map[string]int{"": 401, "wrong": 401, p.Token: 200} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-EXECD-ACCESS-TOKEN", token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("with the right token, %t: %d, want %d", token == p.Token, res.StatusCode, want)
		}
	}
}

func TestLimitsReachTheEngine(t *testing.T) {
	e := open(t, nil)
	p, _ := start(t, e, nil)
	c, err := e.api.ContainerInspect(t.Context(), containerName(p.ID))
	if err != nil {
		t.Fatal(err)
	}
	h := c.HostConfig
	if h.Memory != 64<<20 || h.NanoCPUs != 5e8 || h.PidsLimit == nil || *h.PidsLimit != 256 || len(h.CapDrop) != 3 ||
		strings.Join(h.SecurityOpt, " ") != "no-new-privileges=true" || h.Privileged {
		t.Errorf("memory %d, cpus %d, pids %v, dropped %v, security %v", h.Memory, h.NanoCPUs, h.PidsLimit, h.CapDrop, h.SecurityOpt)
	}
	for _, l := range []string{"opensandbox.io/expires-at", "opensandbox.io/manual-cleanup", "opensandbox.io/http-port"} {
		if _, set := c.Config.Labels[l]; set {
			t.Errorf("label %s would make another server act on the container", l)
		}
	}
	if out, _ := inside(t, e, containerName(p.ID), "sh", "-c", "echo x > /opt/opensandbox/execd"); !strings.Contains(out, "Read-only") {
		t.Errorf("the daemon's volume can be written to: %q", out)
	}
}

// reach tries to fetch the daemon's ping of another container from inside one.
func reach(t *testing.T, e *Engine, from string, target string) bool {
	t.Helper()
	_, code := inside(t, e, from, "sh", "-c", "(printf 'GET /ping HTTP/1.0\\r\\n\\r\\n'; sleep 1) | timeout 3 nc "+target+" | grep -q 200")
	return code == 0
}

func TestSandboxesDoNotReachEachOther(t *testing.T) {
	e := open(t, nil)
	a, ina := start(t, e, nil)
	_, inb := start(t, e, nil)
	if !e.hardware {
		t.Fatal("the rule on the engine's bridge is not in effect, although this is a local engine")
	}
	other, err := e.api.ContainerCreate(t.Context(), &container.Config{Image: testImage, Cmd: []string{"sh", "-c", "while true; do echo -e 'HTTP/1.0 200 OK\\r\\n' | nc -l -p 44772; done"}}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = e.api.ContainerRemove(context.WithoutCancel(t.Context()), other.ID, container.RemoveOptions{Force: true})
	})
	if err := e.api.ContainerStart(t.Context(), other.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	oc, err := e.api.ContainerInspect(t.Context(), other.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !reach(t, e, containerName(a.ID), "127.0.0.1 44772") {
		t.Fatal("the probe does not work: a sandbox does not reach itself")
	}
	host := oc.NetworkSettings.Networks["bridge"].Gateway
	for name, c := range map[string]struct {
		from, to string
		want     bool
	}{
		"sandbox to sandbox":          {containerName(a.ID), inb.Addresses.ContainerIP + " 44772", false},
		"sandbox to other container":  {containerName(a.ID), oc.NetworkSettings.Networks["bridge"].IPAddress + " 44772", false},
		"other container to sandbox":  {other.ID, ina.Addresses.ContainerIP + " 44772", false},
		"sandbox to a published port": {containerName(a.ID), fmt.Sprintf("%s %d", host, openPort(t, host)), true},
	} {
		if got := reach(t, e, c.from, c.to); got != c.want {
			t.Errorf("%s: reached %v, want %v", name, got, c.want)
		}
	}
}

// openPort publishes a sandbox's daemon on the host's bridge address and returns the port.
func openPort(t *testing.T, host string) int {
	t.Helper()
	p, _ := start(t, open(t, func(c *Config) { c.PublishHost = host }), nil)
	return p.Ports[44772]
}

func TestAVolumeThatWasRemovedIsFilledAgain(t *testing.T) {
	e := open(t, nil)
	if err := e.api.VolumeRemove(t.Context(), e.volume, true); err != nil {
		t.Fatal(err)
	}
	start(t, e, nil)
}

func TestOtherInstallationsAreLeftAlone(t *testing.T) {
	e, stranger := open(t, nil), open(t, nil)
	p, _ := start(t, e, nil)
	if _, err := stranger.Inspect(t.Context(), p.ID); err == nil {
		t.Error("another installation sees the sandbox")
	}
	if err := stranger.Kill(t.Context(), p.Ref); err != nil {
		t.Error(err)
	}
	if err := stranger.Remove(t.Context(), p.Ref); err != nil {
		t.Error(err)
	}
	if all, err := stranger.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("another installation lists %v, %v", all, err)
	}
	if in, err := e.Inspect(t.Context(), p.ID); err != nil || in.Phase != executor.Running {
		t.Errorf("the sandbox: %+v, %v", in, err)
	}
}

// TestAnAddressThatIsUsedAgain starts sandboxes one after the other, which get the same address from the engine, and reaches each.
func TestAnAddressThatIsUsedAgain(t *testing.T) {
	e := open(t, nil)
	seen := map[string]int{}
	for range 4 {
		p, in := start(t, e, nil)
		seen[in.Addresses.ContainerIP]++
		if err := e.Remove(t.Context(), p.Ref); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) == 4 {
		t.Logf("the engine gave four different addresses: %v", seen)
	}
}
