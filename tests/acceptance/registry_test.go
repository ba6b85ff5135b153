//go:build e2e

package acceptance

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"opensandbox/libs/secrettest"
	"opensandbox/tests/process"
)

// privateRegistry is a registry on loopback, which engines accept without TLS, that gives its one image to one user only.
type privateRegistry struct {
	image, user, password string
	// login is a directory with a configuration of Docker's client that has logged in.
	login string
}

func newRegistry(t *testing.T) privateRegistry {
	t.Helper()
	dir, address := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", process.FreePort(t))
	r := privateRegistry{image: address + "/team/box:1", user: "robot", password: secrettest.New("the password of the registry"), login: dir}
	users := exec.Command("htpasswd", "-iBc", filepath.Join(dir, "users"), r.user)
	users.Stdin = strings.NewReader(r.password)
	if out, err := users.CombinedOutput(); err != nil {
		t.Fatalf("htpasswd (Debian package apache2-utils): %v %s", err, out)
	}
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\nauth: {htpasswd: {realm: test, path: %s/users}}\n", dir, address, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := process.Command(nil, "docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the registry (Debian package docker-registry): %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 3000 {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			break
		}
		waitABit()
	}
	r.fill(t, address, dir)
	return r
}

// fill pushes the image of the tests, with a configuration of Docker's client of its own, and takes its new name away from the engine.
func (r privateRegistry) fill(t *testing.T, address, dir string) {
	t.Helper()
	login := exec.Command("docker", "--config", dir, "login", "--username", r.user, "--password-stdin", address)
	login.Stdin = strings.NewReader(r.password)
	if out, err := login.CombinedOutput(); err != nil {
		t.Fatalf("login: %v %s", err, out)
	}
	docker(t, "tag", image, r.image)
	docker(t, "--config", dir, "push", r.image)
	docker(t, "rmi", r.image)
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", r.image).Run() })
}

// withAuth is an image with credentials.
func withAuth(image, user, password string) m {
	return m{"image": m{"uri": image, "auth": m{"username": user, "password": password}}}
}

func TestRegistryCredentials(t *testing.T) {
	r := newRegistry(t)
	s := startSingle(t, "") // the second engine of the split services does not reach the registry
	wrong := secrettest.New("a wrong password")
	for what, change := range map[string]m{
		"a wrong password": withAuth(r.image, r.user, wrong),
		"an unknown user":  withAuth(r.image, "nobody", r.password),
		"no credentials":   {"image": m{"uri": r.image}},
	} {
		a := s.do("POST", "/v1/sandboxes", spec(change), "Idempotency-Key", what)
		wantEnvelope(t, what, a, http.StatusBadRequest)
		if got := a.json(t); got["code"] != "DOCKER::SANDBOX_IMAGE_PULL_FAILED" || !strings.Contains(got["message"].(string), r.image) {
			t.Errorf("%s: %v", what, a)
		}
	}
	right := withAuth(r.image, r.user, r.password)
	a := s.do("POST", "/v1/sandboxes", spec(right), "Idempotency-Key", "right")
	if a.status != http.StatusAccepted {
		t.Fatalf("the right password: %v", a)
	}
	id := a.json(t)["id"].(string)
	for _, path := range []string{"/v1/sandboxes/" + id, "/v1/sandboxes", "/v1/sandboxes/" + id + "/diagnostics/inspect"} {
		if a := s.do("GET", path, nil); len(secrettest.NewSearch(secrettest.Used()).In(a.body)) > 0 || strings.Contains(string(a.body), `"auth"`) {
			t.Errorf("GET %s shows credentials: %v", path, a)
		}
	}
	if again := s.do("POST", "/v1/sandboxes", spec(right), "Idempotency-Key", "right"); again.status != http.StatusAccepted || again.json(t)["id"] != id {
		t.Errorf("the same again: %v", again)
	}
	other := s.do("POST", "/v1/sandboxes", spec(withAuth(r.image, r.user, wrong)), "Idempotency-Key", "right")
	wantEnvelope(t, "the key with another password", other, http.StatusConflict)
	// What the engine has is used without asking the registry, as by OpenSandbox 1.1.1.
	s.create(m{"image": m{"uri": r.image}})
}

// TestRegistryByTheLoginOfTheServer: a create without credentials uses what "docker login" has written for the server's user.
func TestRegistryByTheLoginOfTheServer(t *testing.T) {
	r := newRegistry(t)
	s := &server{t: t, dir: t.TempDir(), base: fmt.Sprintf("http://127.0.0.1:%d", process.FreePort(t))}
	s.programs = []*program{{name: "server", binary: binary(t), env: []string{"DOCKER_CONFIG=" + r.login}}}
	s.run()
	s.cleanUp()
	wrong := secrettest.New("a wrong password")
	if a := s.do("POST", "/v1/sandboxes", spec(withAuth(r.image, r.user, wrong))); a.status != http.StatusBadRequest || !strings.Contains(string(a.body), "image.auth") {
		t.Errorf("credentials in the request go over the login: %v", a)
	}
	s.create(m{"image": m{"uri": r.image}})
}

func TestRegistryThatHangs(t *testing.T) {
	t.Setenv("OPENSANDBOX_DOCKER_PULL_TIMEOUT_SECONDS", "3")
	s := startSingle(t, "")
	a := s.do("POST", "/v1/sandboxes", spec(withAuth(hanging(t), "robot", secrettest.New("a password for a registry that hangs"))))
	wantEnvelope(t, "create", a, http.StatusInternalServerError)
	if got := a.json(t); got["code"] != "DOCKER::SANDBOX_IMAGE_PULL_FAILED" || !strings.Contains(got["message"].(string), "docker.pull_timeout_seconds") {
		t.Errorf("create: %v", a)
	}
}

// TestRegistryThatResets: a registry that takes the connection and cuts it is a failure of the registry, not of the request.
func TestRegistryThatResets(t *testing.T) {
	t.Parallel()
	s := startSingle(t, "") // the second engine of the split services does not reach the registry
	a := s.do("POST", "/v1/sandboxes", spec(withAuth(resetting(t), "robot", secrettest.New("a password for a registry that resets"))))
	wantEnvelope(t, "create", a, http.StatusInternalServerError)
	if got := a.json(t); got["code"] != "DOCKER::SANDBOX_IMAGE_PULL_FAILED" || !strings.Contains(got["message"].(string), "does not answer as it should") {
		t.Errorf("create: %v", a)
	}
}

func TestDeleteGivesUpAPull(t *testing.T) {
	s := startSingle(t, "")
	change := withAuth(hanging(t), "robot", secrettest.New("a password for a registry that hangs"))
	a := s.do("POST", "/v1/sandboxes", spec(change), "Prefer", "respond-async")
	if a.status != http.StatusAccepted {
		t.Fatalf("create: %v", a)
	}
	at := "/v1/sandboxes/" + a.json(t)["id"].(string)
	s.eventually("the image is being pulled", func() bool {
		return strings.Contains(string(s.do("GET", at, nil).body), "pulling image")
	})
	if a := s.do("DELETE", at, nil); a.status != http.StatusNoContent {
		t.Errorf("delete: %v", a)
	}
	if a := s.do("GET", at, nil); a.status != http.StatusNotFound {
		t.Errorf("afterwards: %v", a)
	}
}

// hanging is a registry that takes questions and never answers.
func hanging(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(func() {
		server.CloseClientConnections() // engines keep the connection to a registry that hangs
		server.Close()
	})
	return strings.TrimPrefix(server.URL, "http://") + "/team/box:1"
}

// resetting is a registry that cuts every connection once it was asked something.
func resetting(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://") + "/team/box:1"
}
