//go:build e2e

package acceptance

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"opensandbox/tests/process"
)

// claim is a volume of the engine that goes with its sandbox.
func claim(name string) m {
	return m{"name": "c", "mountPath": "/data", "pvc": m{"claimName": name, "deleteOnSandboxTermination": true}}
}

// volumes returns the volumes of this platform's sandboxes on all engines.
func (s *server) volumes() []string {
	var names []string
	for _, engine := range s.engines() {
		out := docker(s.t, append(engine, "volume", "ls", "-q", "--filter", "label=dev.opensandbox.installation="+s.installation(), "--filter", "label=dev.opensandbox.volume-of")...)
		names = append(names, strings.Fields(out)...)
	}
	return names
}

func (s *server) noVolumes(when string) {
	s.t.Helper()
	s.eventually(when+": no volume is left", func() bool { return len(s.volumes()) == 0 })
}

// allowed is a configuration that lets sandboxes mount what is below a directory, which it returns.
func allowed(t *testing.T) (dir, config string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir, fmt.Sprintf("[storage]\nallowed_host_paths = [%q]\n", dir)
}

func TestVolumes(t *testing.T) {
	t.Parallel()
	dir, config := allowed(t)
	s := startSingle(t, config)
	name := "claim-" + filepath.Base(filepath.Dir(dir))
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	if err := os.WriteFile(filepath.Join(dir, "in"), []byte("from the node"), 0o600); err != nil {
		t.Fatal(err)
	}
	host := m{"name": "h", "mountPath": "/host", "host": m{"path": dir}}
	part := m{"name": "p", "mountPath": "/part", "subPath": "a/b", "pvc": m{"claimName": name, "deleteOnSandboxTermination": true}}
	first := s.create(m{"volumes": []m{host, claim(name), part}})
	if out := output(s.shell(first, "cat /host/in; echo shared > /part/x; cat /data/a/b/x; echo out > /host/out"), "stdout"); out != "from the nodeshared\n" {
		t.Errorf("in the sandbox: %q", out)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || string(text) != "out\n" {
		t.Errorf("on the node: %q, %v", text, err)
	}
	if b := s.do("GET", "/v1/sandboxes/"+first, nil).json(t); b["volumes"] != nil {
		t.Errorf("the answer has volumes, which OpenSandbox 1.1.1 does not show: %v", b)
	}
	second := s.create(m{"volumes": []m{claim(name)}})
	if a := s.do("DELETE", "/v1/sandboxes/"+first, nil); a.status != http.StatusNoContent {
		t.Fatal(a)
	}
	if out := output(s.shell(second, "cat /data/a/b/x"), "stdout"); out != "shared\n" {
		t.Errorf("in the second sandbox, after the first was deleted: %q", out)
	}
	if a := s.do("DELETE", "/v1/sandboxes/"+second, nil); a.status != http.StatusNoContent {
		t.Fatal(a)
	}
	if left := s.volumes(); len(left) != 0 {
		t.Errorf("left after the answer to the last delete: %v", left)
	}
}

func TestVolumesEndWithTheirSandbox(t *testing.T) {
	t.Parallel()
	s := startSingle(t, "") // containers are removed by hand on the one engine
	n := 0
	next := func() m { n++; return claim(fmt.Sprintf("c-%s-%d", s.installation(), n)) }
	for name, change := range map[string]m{
		"the entry point fails":   {"entrypoint": []string{"sh", "-c", "exit 3"}},
		"the entry point is none": {"entrypoint": []string{"/no/such"}},
		"the engine refuses":      {"resourceLimits": m{"cpu": "100000"}},
		"another volume is none":  {},
	} {
		change["volumes"] = []m{next(), {"name": "other", "mountPath": "/other", "pvc": m{"claimName": "no-such-" + s.installation(), "createIfNotExists": false}}}
		if name != "another volume is none" {
			change["volumes"] = []m{next()}
		}
		if a := s.do("POST", "/v1/sandboxes", spec(change)); a.status != http.StatusBadRequest {
			t.Errorf("%s: %v", name, a)
		}
		s.noVolumes(name)
	}
	expires := s.create(m{"volumes": []m{next()}})
	s.renew(expires, time.Now().Add(time.Second))
	s.eventually("it expires", func() bool { return s.state(expires) == "404" })
	s.noVolumes("after the deadline")
	byHand := s.create(m{"volumes": []m{next()}})
	docker(t, "rm", "-f", "sandbox-"+byHand)
	s.eventually("it is seen", func() bool { return s.state(byHand) == "Failed" })
	if a := s.do("DELETE", "/v1/sandboxes/"+byHand, nil); a.status != http.StatusNoContent {
		t.Fatal(a)
	}
	s.noVolumes("after somebody removed the container")
}

// TestVolumesAfterAKill kills the server with -9 at random moments of creates and deletes of sandboxes with volumes.
func TestVolumesAfterAKill(t *testing.T) {
	s := startSingle(t, "")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	for round := range 5 {
		victim := s.create(m{"volumes": []m{claim(fmt.Sprintf("v-%s-%d", s.installation(), round))}})
		var wg sync.WaitGroup
		for i := range 4 {
			v := claim(fmt.Sprintf("k-%s-%d-%d", s.installation(), round, i))
			if i%2 == 0 {
				v["subPath"] = "part" // made before its container
			}
			wg.Go(func() { _, _ = s.try("POST", "/v1/sandboxes", spec(m{"volumes": []m{v}})) })
		}
		wg.Go(func() { _, _ = s.try("DELETE", "/v1/sandboxes/"+victim, nil) })
		time.Sleep(time.Duration(rng.IntN(700)) * time.Millisecond) // the random moment
		s.kill()
		wg.Wait()
		s.run()
		s.settled(fmt.Sprintf("round %d", round))
		for _, id := range ids(s.items("")) {
			if a := s.do("DELETE", "/v1/sandboxes/"+id, nil); a.status != http.StatusNoContent && a.status != http.StatusNotFound {
				t.Errorf("delete: %v", a)
			}
		}
		s.noVolumes(fmt.Sprintf("round %d", round))
	}
}

func TestVolumesThatAreRefused(t *testing.T) {
	t.Parallel()
	dir, config := allowed(t)
	s := start(t, config)
	if err := os.Symlink("/etc", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	host := func(path, sub string) m {
		return m{"name": "v", "mountPath": "/v", "subPath": sub, "host": m{"path": path}}
	}
	for name, c := range map[string]struct {
		volume m
		code   string
	}{
		"elsewhere":            {host("/etc", ""), "VOLUME::HOST_PATH_NOT_ALLOWED"},
		"dots":                 {host(dir+"/../../etc", ""), "VOLUME::INVALID_HOST_PATH"},
		"dots in the part":     {host(dir, "../etc"), "VOLUME::INVALID_SUB_PATH"},
		"a link out":           {host(dir+"/out", ""), "VOLUME::HOST_PATH_NOT_ALLOWED"},
		"a link out as a part": {host(dir, "out/ssl"), "VOLUME::HOST_PATH_NOT_ALLOWED"},
		"over the daemon":      {m{"name": "v", "mountPath": "/opt/opensandbox", "host": m{"path": dir}}, "VOLUME::INVALID_MOUNT_PATH"},
		"no back end":          {m{"name": "v", "mountPath": "/v"}, "VOLUME::INVALID_BACKEND"},
		"a claim of none":      {m{"name": "v", "mountPath": "/v", "pvc": m{"claimName": "no-such-" + s.installation(), "createIfNotExists": false}}, "VOLUME::PVC_NOT_FOUND"},
		"a name that is none":  {m{"name": "V", "mountPath": "/v", "pvc": m{"claimName": "c"}}, "VOLUME::INVALID_NAME"},
	} {
		a := s.do("POST", "/v1/sandboxes", spec(m{"volumes": []m{c.volume}}))
		if a.status != http.StatusBadRequest || a.json(t)["code"] != c.code {
			t.Errorf("%s: %v, want 400 %s", name, a, c.code)
		}
	}
	if a := s.do("POST", "/v1/sandboxes", spec(m{"resourceLimits": m{"gpu": "1"}})); a.status != http.StatusBadRequest || !strings.Contains(string(a.body), "GPU") {
		t.Errorf("a GPU on an engine without: %v", a)
	}
}

func TestOneSandboxOnTheNodesNetwork(t *testing.T) {
	s := &server{t: t, dir: t.TempDir(), base: fmt.Sprintf("http://127.0.0.1:%d", process.FreePort(t))}
	s.programs = []*program{{name: "server", binary: binary(t), env: []string{"OPENSANDBOX_DOCKER_NETWORK_MODE=host"}}}
	s.run()
	s.cleanUp()
	s.awaitDaemonPort()
	id := s.create(nil)
	if out := output(s.shell(id, "echo hello"), "stdout"); out != "hello\n" {
		t.Errorf("command: %q", out)
	}
	if url, header := s.endpoint(id, 3000); !strings.HasSuffix(url, ":3000") || len(header) > 0 {
		t.Errorf("endpoint of a port: %s %v", url, header)
	}
	a := s.do("POST", "/v1/sandboxes", spec(nil))
	if a.status != http.StatusConflict || !strings.Contains(string(a.body), "docker.network_mode") {
		t.Errorf("a second sandbox: %v", a)
	}
	if a := s.do("DELETE", "/v1/sandboxes/"+id, nil); a.status != http.StatusNoContent {
		t.Fatal(a)
	}
	s.awaitDaemonPort()
	s.create(nil)
}

// awaitDaemonPort waits until the port of the daemon is free on this machine. It is among those that the kernel gives to connections, each of which
// has it until a minute after its end. The daemon tries for two seconds only.
func (s *server) awaitDaemonPort() {
	s.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; waitABit() {
		l, err := net.Listen("tcp4", ":44772")
		if err == nil {
			l.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal(err)
		}
	}
}
