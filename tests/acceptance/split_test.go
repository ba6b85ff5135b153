//go:build e2e

package acceptance

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/secrettest"
	"opensandbox/tests/process"
	"opensandbox/tests/split"
)

// splitSystem is what the split services have in addition: a Redis of their own and two engines.
type splitSystem struct {
	split.Settings
	redis *redistest.Server
	// apis and routers are the base URLs of both replicas; router is the first one.
	apis, routers []string
	router        string
	// second is the DOCKER_HOST of the second engine, and secondAddress where its published ports answer.
	second, secondAddress string
}

// startSplit runs two apis, two schedulers, two routers and an agent for each of two engines on a Redis of their own.
func startSplit(t *testing.T, extra string) *server {
	t.Helper()
	s := newSplit(t, extra)
	s.run()
	s.cleanUp()
	return s
}

func newSplit(t *testing.T, extra string) *server {
	t.Helper()
	x := &splitSystem{
		Settings: split.NewSettings("test", apiKey),
		second:   needEnv(t, "SECOND_ENGINE_DOCKER_HOST"), secondAddress: needEnv(t, "SECOND_ENGINE_HOST"),
	}
	password := secrettest.New("the password of Redis")
	x.redis = redistest.Start(t, redistest.Options{Password: password})
	x.RedisURL = "redis://:" + password + "@" + x.redis.Addr() + "/0"
	s := &server{t: t, dir: t.TempDir(), extra: extra, split: x}
	low, high := process.SandboxPorts()
	for i := range 2 {
		port := process.FreePort(t)
		x.apis = append(x.apis, fmt.Sprintf("http://127.0.0.1:%d", port))
		s.programs = append(s.programs, &program{name: fmt.Sprintf("api-%d", i), binary: service(t, "api"), env: []string{fmt.Sprintf("OPENSANDBOX_SERVER_PORT=%d", port)}})
	}
	s.base = x.apis[0]
	for i := range 2 {
		// The agents come last, and the first create may come before them.
		s.programs = append(s.programs, &program{name: fmt.Sprintf("scheduler-%d", i), binary: service(t, "scheduler"), env: []string{"OPENSANDBOX_SCHEDULER_PLACEMENT_WAIT_SECONDS=60"}})
	}
	for i, e := range []struct{ docker, host string }{{"", "127.0.0.1"}, {x.second, x.secondAddress}} {
		a := split.Agent{
			Node: fmt.Sprintf("node-%d", i), StateDir: filepath.Join(s.dir, fmt.Sprintf("state-%d", i)), Listen: fmt.Sprintf("127.0.0.1:%d", process.FreePort(t)),
			Host: e.host, PortMin: low, PortMax: high, Engine: e.docker,
		}
		s.programs = append(s.programs, &program{name: fmt.Sprintf("agent-%d", i), binary: service(t, "agent"), env: a.Env()})
	}
	for i := range 2 {
		address := fmt.Sprintf("127.0.0.1:%d", process.FreePort(t))
		x.routers = append(x.routers, "http://"+address)
		s.programs = append(s.programs, &program{name: fmt.Sprintf("router-%d", i), binary: service(t, "router"), env: []string{"OPENSANDBOX_ROUTER_LISTEN=" + address}})
	}
	x.router = x.routers[0]
	return s
}

// service returns the path of a service's binary, which lies beside that of the single one.
func service(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(filepath.Dir(binary(t)), "opensandbox-"+name)
}

func (x *splitSystem) engines() [][]string { return [][]string{nil, {"-H", x.second}} }

// program returns the process of a name.
func (s *server) named(name string) *program {
	s.t.Helper()
	for _, p := range s.programs {
		if p.name == name {
			return p
		}
	}
	s.t.Fatalf("no process %s", name)
	return nil
}

// hostOf returns the host of the endpoint of a sandbox, which tells the engines apart.
func (s *server) hostOf(id string) string {
	s.t.Helper()
	at, _ := s.endpoint(id, 44772)
	u, err := url.Parse(at)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSuffix(u.Host, ":"+u.Port())
}
