//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/client"

	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/secrettest"
	"opensandbox/tests/process"
	"opensandbox/tests/split"
)

// platform is all that runs.
type platform struct {
	// dir has what the platform needs, out what its processes write for people.
	dir, out string

	split.Settings
	redis         *redistest.Group
	engines       []*engine
	apis, routers []string
	programs      []*program
}

// program is one of the platform, and its process.
type program struct {
	name, log string
	args, env []string

	*process.Process
}

func (p *program) start() (err error) {
	p.Process, err = process.Start(process.Command(p.env, p.args[0], p.args[1:]...), p.log)
	return err
}

func needEnv(t *testing.T, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s must be set; scripts/chaos.sh does", name)
	}
	return v
}

// startPlatform starts everything, and ends it with the test.
func startPlatform(t *testing.T, out, broken string) *platform {
	t.Helper()
	p := &platform{
		dir: t.TempDir(), out: out, Settings: split.NewSettings("chaos", secrettest.New("the API key")),
	}
	p.redis = redistest.StartGroup(t, redistest.Options{Args: []string{"--appendfsync", "always"}})
	p.RedisURL, p.Durable = fmt.Sprintf("redis-sentinel://%s/%s/0", strings.Join(p.redis.SentinelAddrs(), ","), redistest.MasterName), true
	for _, name := range strings.Fields(needEnv(t, "CHAOS_ENGINES")) {
		at := strings.SplitN(name, "=", 2)
		if len(at) != 2 {
			t.Fatalf("CHAOS_ENGINES: %q is not name=subnet", name)
		}
		p.engines = append(p.engines, p.openEngine(t, at[0], at[1]))
	}
	p.describe(t, needEnv(t, "CHAOS_BIN"), broken)
	t.Cleanup(func() {
		for _, x := range p.programs {
			if x.Process != nil {
				x.Kill()
			}
		}
		p.tidy()
	})
	for _, x := range p.programs {
		if err := x.start(); err != nil {
			t.Fatal(err)
		}
	}
	p.healed(t)
	return p
}

// describe lists the programs.
func (p *platform) describe(t *testing.T, bin, broken string) {
	config := filepath.Join(p.dir, "opensandbox.toml")
	if err := os.WriteFile(config, []byte(p.TOML()+"[scheduler]\nplacement_wait_seconds = 60\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	add := func(kind string, i int, before []string, env ...string) {
		name := fmt.Sprintf("%s-%d", kind, i)
		if broken != "" {
			env = append(env, "SABOTAGE_BROKEN="+broken)
		}
		p.programs = append(p.programs, &program{
			name: name, log: filepath.Join(p.out, name+".log"), env: env,
			args: append(before, filepath.Join(bin, "opensandbox-"+kind), "--config", config),
		})
	}
	low, high := process.SandboxPorts()
	for i := range 2 {
		api, router := process.FreePort(t), process.FreePort(t)
		p.apis = append(p.apis, fmt.Sprintf("http://127.0.0.1:%d", api))
		p.routers = append(p.routers, fmt.Sprintf("http://127.0.0.1:%d", router))
		add("api", i, nil, fmt.Sprintf("OPENSANDBOX_SERVER_PORT=%d", api))
		add("scheduler", i, nil)
		add("router", i, nil, fmt.Sprintf("OPENSANDBOX_ROUTER_LISTEN=127.0.0.1:%d", router))
		e := p.engines[i]
		// An agent runs in the network of its engine, as on a host of its own.
		a := split.Agent{
			Node: fmt.Sprintf("node-%d", i), StateDir: filepath.Join(p.dir, fmt.Sprintf("state-%d", i)), Listen: fmt.Sprintf("%s:%d", e.address, process.FreePort(t)),
			Host: e.address, PortMin: low, PortMax: high, Engine: e.socket,
		}
		add("agent", i, []string{"nsenter", "--net=/run/netns/" + e.name}, a.Env()...)
	}
}

// healed waits until all processes run, both engines answer and an api makes a sandbox on each node that it can also delete.
func (p *platform) healed(t *testing.T) {
	t.Helper()
	eventually(t, "both apis answer, and both nodes", func() bool {
		p.supervise(t)
		for _, api := range p.apis {
			if a := p.ask(http.MethodGet, api+"/v1/sandboxes?pageSize=1", nil); a.status != http.StatusOK {
				return false
			}
		}
		for _, e := range p.engines {
			if !e.answers() {
				return false
			}
		}
		return true
	})
}

// supervise starts what has ended by itself, as an agent does that the store does not know any more.
func (p *platform) supervise(t *testing.T) {
	t.Helper()
	for _, x := range p.programs {
		if !x.Runs() {
			if err := x.start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond) // one that ends at once is not started a hundred times a second
		}
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// engine is one Docker engine in a network namespace of its own, as scripts/second-engine.sh starts it.
type engine struct {
	name, subnet, address, socket, pidfile string
	link                                   *link
	docker                                 *client.Client
}

func (p *platform) openEngine(t *testing.T, name, subnet string) *engine {
	t.Helper()
	run := "/run/opensandbox-" + name
	e := &engine{name: name, subnet: subnet, address: subnet + ".2", socket: "unix://" + run + "/docker.sock", pidfile: run + "/docker.pid"}
	c, err := client.NewClientWithOpts(client.WithHost(e.socket), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	e.docker = c
	t.Cleanup(func() { _ = c.Close() })
	addrs := append(p.redis.SentinelAddrs(), p.redis.Master.Addr(), p.redis.Replica.Addr())
	if e.link, err = newLink(name, addrs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.link.close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func (e *engine) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := e.docker.Ping(ctx)
	return err == nil
}

// signal sends a signal to the engine's process.
func (e *engine) signal(sig syscall.Signal) (pid int, err error) {
	text, err := os.ReadFile(e.pidfile)
	if err != nil {
		return 0, err
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return 0, err
	}
	return pid, syscall.Kill(pid, sig)
}

// start starts the engine again.
func (e *engine) start() error {
	cmd := exec.Command("../../scripts/second-engine.sh", "start")
	cmd.Env = append(os.Environ(), "SECOND_ENGINE_NAME="+e.name, "SECOND_ENGINE_SUBNET="+e.subnet)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
