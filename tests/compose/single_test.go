//go:build e2e

package compose

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/secrettest"
)

const singleFile = "../../deployments/single/docker-compose.yml"

// TestSingleServerInAContainer starts the example of the single server, uses it, and replaces its container.
func TestSingleServerInAContainer(t *testing.T) {
	name := "osbsingle" + strings.ToLower(rand.Text()[:8])
	port := freePort(t)
	p := &platform{
		t: t, project: name, installation: name, api: fmt.Sprintf("http://127.0.0.1:%d", port), key: secrettest.New("the API key of the single server"),
		client: &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{}},
	}
	t.Cleanup(p.client.CloseIdleConnections)
	p.env = append(os.Environ(), "COMPOSE_PROJECT_NAME="+name, "OPENSANDBOX_TAG="+name, "API_KEY="+p.key, "INSTALLATION_ID="+name,
		fmt.Sprintf("API_PORT=%d", port), "HOST_IP=localhost")
	p.run("../../scripts/compose-images.sh", "server")
	compose := []string{"docker-compose", "-f", singleFile}
	if exec.Command("docker", "compose", "version").Run() == nil {
		compose = []string{"docker", "compose", "-f", singleFile}
	}
	do := func(args ...string) string { return p.run(compose[0], append(compose[1:], args...)...) }
	t.Cleanup(func() {
		if t.Failed() {
			p.tellLogs()
		}
		_, _ = p.try(compose[0], append(compose[1:], "down", "--volumes", "--timeout", "20")...)
		for _, id := range p.ofInstallation("") {
			_, _ = p.try("docker", "rm", "-f", "-v", id)
		}
		_, _ = p.try("docker", "rmi", "opensandbox/server:"+name)
	})
	do("up", "-d")
	healthy := func() bool {
		state, _ := p.try("docker", "inspect", "-f", "{{.State.Health.Status}}", p.container("server"))
		return strings.TrimSpace(state) == "healthy"
	}
	p.eventually("the health check of the image says healthy", healthy)
	b := p.create()
	if b.host() != "localhost" {
		t.Errorf("clients are told the host %q, and docker.host_ip is localhost", b.host())
	}
	p.runs(b, "directly", "http://"+b.endpoint)
	// Another container of the server takes up what the first one has left.
	do("up", "-d", "--force-recreate")
	p.eventually("the next container is healthy", healthy)
	p.runs(p.endpoint(b.id), "after the server was replaced", "http://"+b.endpoint)
	p.want(http.StatusNoContent, http.MethodDelete, "/sandboxes/"+b.id, nil, nil)
	p.logsAreQuiet()
	if left := p.ofInstallation(""); len(left) > 0 {
		t.Errorf("containers left behind: %v", left)
	}
	for _, c := range []string{"/bin/sh", "/usr/bin/env"} {
		if out, err := p.try("docker", "run", "--rm", "--entrypoint", c, "opensandbox/server:"+name); err == nil {
			t.Errorf("the image has %s: %s", c, out)
		}
	}
	if out := p.run("docker", "run", "--rm", "opensandbox/server:"+name, "--version"); !strings.Contains(out, ".") {
		t.Errorf("--version in the image: %s", out)
	}
}
