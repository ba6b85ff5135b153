//go:build integration

package docker

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
)

func TestASandboxOnTheNodesNetwork(t *testing.T) {
	e := open(t, func(c *Config) { c.NetworkMode = "host" })
	awaitPort(t, 44772)
	p, in := start(t, e, nil)
	want := sandbox.Addresses{ContainerIP: "127.0.0.1", Ports: map[int]int{44772: 44772, 8080: 8080}, OnHost: true}
	if in.Addresses.ContainerIP != want.ContainerIP || !maps.Equal(in.Addresses.Ports, want.Ports) || !in.Addresses.OnHost || !maps.Equal(in.Published, p.Ports) {
		t.Errorf("addresses %+v, published %v; want %+v, and the leased ports %v as planned", in.Addresses, in.Published, want, p.Ports)
	}
	status := func(path, token string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:44772"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-EXECD-ACCESS-TOKEN", token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	// What listens on the node for the node only is not open to everybody who reaches the daemon.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Second}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	path := fmt.Sprintf("/proxy/%d/", l.Addr().(*net.TCPAddr).Port)
	if got := status(path, ""); got != 401 {
		t.Errorf("a port of the node through the daemon, without the token: %d, want 401", got)
	}
	if got := status(path, p.Token); got != 200 {
		t.Errorf("with the token: %d, want 200", got)
	}
	second := p
	second.ID, second.Ports = newID(), freePorts(t)
	err = e.Create(t.Context(), second)
	if fault.CodeOf(err) != executor.CodeHostNetwork || !strings.Contains(fault.TextOf(err), "docker.network_mode") {
		t.Errorf("a second sandbox: %v (%s)", err, fault.CodeOf(err))
	}
	other := open(t, func(c *Config) { c.NetworkMode = "host" })
	if err := other.Create(t.Context(), second); fault.CodeOf(err) != executor.CodeHostNetwork {
		t.Errorf("one of another installation: %v", err)
	}
	if err := e.Create(t.Context(), p); !fault.Is(err, fault.Conflict) || fault.CodeOf(err) == executor.CodeHostNetwork {
		t.Errorf("the same again: %v", err)
	}
	if err := e.Remove(t.Context(), p.Ref); err != nil {
		t.Fatal(err)
	}
	awaitPort(t, 44772)
	start(t, e, nil) // there is room again
}

// awaitPort waits until a port of this machine is free. It is among those that the kernel gives to connections, each of which has it
// until a minute after its end. The daemon tries for two seconds only.
func awaitPort(t *testing.T, port int) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// makeNetwork makes a network as an operator does.
func makeNetwork(t *testing.T, e *Engine) string {
	t.Helper()
	name := "Net-" + string(newID())
	if _, err := e.api.NetworkCreate(t.Context(), name, network.CreateOptions{Driver: "bridge"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.api.NetworkRemove(context.WithoutCancel(t.Context()), name) })
	return name
}

func TestASandboxOnANamedNetwork(t *testing.T) {
	name := makeNetwork(t, open(t, nil))
	e := open(t, func(c *Config) { c.NetworkMode = name })
	if !e.hardware {
		t.Error("sandboxes are not kept apart by their hardware addresses")
	}
	a, _ := start(t, e, nil)
	_, inb := start(t, e, nil)
	c, err := e.api.ContainerInspect(t.Context(), containerName(a.ID))
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(maps.Keys(c.NetworkSettings.Networks)); len(got) != 1 || got[0] != name {
		t.Errorf("on networks %v, want %s", got, name)
	}
	if !reach(t, e, containerName(a.ID), "127.0.0.1 44772") {
		t.Fatal("the probe does not work")
	}
	if reach(t, e, containerName(a.ID), inb.Addresses.ContainerIP+" 44772") {
		t.Error("a sandbox reaches another one on the same network")
	}
}

func TestNetworksThatCannotBeUsed(t *testing.T) {
	for mode, want := range map[string]string{"no-such-network": `no network "no-such-network"`, "none": "cannot be reached", "container:x": "cannot be reached"} {
		e, err := Open(t.Context(), Config{Installation: "i", Node: "n", NetworkMode: mode, APITimeout: time.Minute, Daemon: daemon(t), Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "docker.network_mode") {
			t.Errorf("%s: %v, want %q", mode, err, want)
		}
	}
	maker := open(t, nil)
	name := makeNetwork(t, maker)
	e := open(t, func(c *Config) { c.NetworkMode = name })
	if err := maker.api.NetworkRemove(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	p := executor.Plan{Ref: executor.Ref{ID: newID(), Epoch: 1}, Image: testImage, Entrypoint: []string{"true"}, Ports: freePorts(t), Token: secrettest.New("the token of a daemon")}
	t.Cleanup(func() { _ = e.Remove(context.WithoutCancel(t.Context()), p.Ref) })
	err := e.Create(t.Context(), p)
	if err == nil {
		err = e.Start(t.Context(), p)
	}
	if !fault.Is(err, fault.Internal) || !strings.Contains(fault.TextOf(err), "docker.network_mode") {
		t.Errorf("a network that was removed: %v (%v)", err, fault.KindOf(err))
	}
}

func TestProfilesReachTheEngine(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "profile.json")
	// One call is refused, which shows that the profile is in effect.
	write(t, profile, `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}`)
	e := open(t, func(c *Config) { c.SeccompProfile, c.AppArmorProfile = profile, "sandboxes" })
	p, _ := start(t, e, nil)
	c, err := e.api.ContainerInspect(t.Context(), containerName(p.ID))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"no-new-privileges=true", "apparmor=sandboxes",
		`seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`}
	if !slices.Equal(c.HostConfig.SecurityOpt, want) {
		t.Errorf("security options %q, want %q", c.HostConfig.SecurityOpt, want)
	}
	if out, code := inside(t, e, containerName(p.ID), "mkdir", "/tmp/x"); code == 0 || !strings.Contains(out, "not permitted") {
		t.Errorf("mkdir under a profile without it: %q, %d", out, code)
	}
}

func TestWhatAllSandboxesGet(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "shared"), "for all")
	e := open(t, func(c *Config) {
		c.SandboxEnv = map[string]string{"FLEET": "1", "BOTH": "fleet", "DROPPED": "x", "OPENSANDBOX_ID": "fake"}
		c.SandboxBinds = []string{dir + ":/shared:ro"}
	})
	p, _ := start(t, e, func(p *executor.Plan) {
		p.Env, p.Unset = map[string]string{"BOTH": "mine", "MINE": "2"}, []string{"DROPPED", "NOT_THERE"}
	})
	out, _ := inside(t, e, containerName(p.ID), "sh", "-c", "echo $FLEET,$BOTH,$MINE,${DROPPED-none},$OPENSANDBOX_ID; cat /shared/shared")
	if out != "1,mine,2,none,"+string(p.ID)+"\nfor all" {
		t.Errorf("inside: %q", out)
	}
	if out, code := inside(t, e, containerName(p.ID), "touch", "/shared/y"); code == 0 || !strings.Contains(out, "Read-only") {
		t.Errorf("a write to what is bound read-only: %q, %d", out, code)
	}
	clash := p
	clash.ID, clash.Ports = newID(), freePorts(t)
	clash.Volumes = []sandbox.Volume{{Name: "v", MountPath: "/shared", Claim: &sandbox.VolumeClaim{Name: "claim-" + string(newID()), Create: true, Delete: true}}}
	if err := e.Create(t.Context(), clash); !fault.Is(err, fault.Invalid) {
		t.Errorf("a volume where all sandboxes have something: %v", err)
	}
	if err := e.Remove(t.Context(), clash.Ref); err != nil {
		t.Error(err)
	}
	if hasVolume(t, e, clash.Volumes[0].Claim.Name) {
		t.Error("a volume is left of a create that failed")
	}
}

func TestGPUs(t *testing.T) {
	e := open(t, nil)
	for _, n := range []int{2, sandbox.AllGPUs} {
		p := executor.Plan{Ref: executor.Ref{ID: newID(), Epoch: 1}, Image: testImage, Entrypoint: []string{"true"}, Ports: freePorts(t), Token: secrettest.New("the token of a daemon"), GPUs: n}
		t.Cleanup(func() { _ = e.Remove(context.WithoutCancel(t.Context()), p.Ref) })
		if err := e.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		c, err := e.api.ContainerInspect(t.Context(), containerName(p.ID))
		if err != nil {
			t.Fatal(err)
		}
		if d := c.HostConfig.DeviceRequests; len(d) != 1 || d[0].Count != n || len(d[0].Capabilities) != 1 || !slices.Equal(d[0].Capabilities[0], []string{"gpu"}) {
			t.Errorf("device requests %+v, want %d GPUs", d, n)
		}
		if _, err := os.Stat("/dev/nvidia0"); err == nil {
			continue // the engine may have some to give
		}
		if err := e.Start(t.Context(), p); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.TextOf(err), "resourceLimits.gpu") ||
			!strings.Contains(fault.TextOf(err), "it answered: could not select device driver") {
			t.Errorf("start on an engine without: %v", err)
		}
	}
}

// An engine lets two callers that come at once make a network with the same name, which then means neither.
func TestOneNetworkForAll(t *testing.T) {
	e := open(t, nil)
	ids := make([]string, 8)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			id, err := e.ensureNetwork(t.Context())
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	all.Wait()
	last, err := e.ensureNetwork(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	left, err := e.ownNetworks(t.Context())
	if err != nil || len(left) != 1 || left[0].ID != last {
		t.Errorf("networks %v, %v; want one, %s", left, err, last)
	}
	e.network = last
	start(t, e, nil)
}
