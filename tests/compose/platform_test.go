//go:build e2e

package compose

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/secrettest"
)

const (
	script = "../../scripts/compose.sh"
	// image has a shell, and both engines have it.
	image = "opensandbox/busybox:dev"
	// patience is for what takes seconds; a test that needs more has failed.
	patience = 90 * time.Second
)

// platform is what docker-compose.yml makes, under a project name, a network and ports of its own.
type platform struct {
	t *testing.T
	// project, installation and subnet (three numbers) tell it from any other on this machine.
	project, installation, subnet string
	// second is the DOCKER_HOST of the second engine, and secondHost where its published ports answer.
	second, secondHost              string
	api, router, prometheus, traces string
	key                             string
	// settings is the file that scripts/compose.sh adds what it makes up to.
	settings string
	env      []string
	client   *http.Client
}

func needEnv(t *testing.T, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set: run make e2e", name)
	}
	return v
}

// newPlatform writes the settings and makes the images that stand for public ones. Nothing runs yet; what runs later ends with the test.
func newPlatform(t *testing.T) *platform {
	t.Helper()
	n := rand.IntN(200)
	p := &platform{
		t: t, project: fmt.Sprintf("osbtest%d", os.Getpid()), installation: fmt.Sprintf("test-%x", rand.Uint64()), subnet: fmt.Sprintf("10.212.%d", n),
		second: needEnv(t, "SECOND_ENGINE_DOCKER_HOST"), secondHost: needEnv(t, "SECOND_ENGINE_HOST"),
		client: &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}},
	}
	t.Cleanup(p.client.CloseIdleConnections)
	port := map[string]int{}
	for _, name := range []string{"API_PORT", "ROUTER_PORT", "REDIS_PORT", "PROMETHEUS_PORT", "OTLP_PORT"} {
		port[name] = freePort(t)
	}
	at := func(name string) string { return fmt.Sprintf("http://127.0.0.1:%d", port[name]) }
	p.api, p.router, p.prometheus, p.traces = at("API_PORT"), at("ROUTER_PORT"), at("PROMETHEUS_PORT"), at("OTLP_PORT")
	lines := []string{
		"COMPOSE_PROJECT_NAME=" + p.project, "COMPOSE_PROFILES=agent2,observability", "SUBNET=" + p.subnet, "INSTALLATION_ID=" + p.installation,
		"AGENT2_DOCKER_HOST=" + p.second, "AGENT2_HOST=" + p.secondHost, "OTEL_COLLECTOR_IMAGE=opensandbox/otlp-sink:dev",
	}
	for _, name := range []string{"REDIS_IMAGE", "HAPROXY_IMAGE", "PROMETHEUS_IMAGE"} {
		lines = append(lines, name+"=opensandbox/third-party:dev")
	}
	for name, number := range port {
		lines = append(lines, fmt.Sprintf("%s=%d", name, number))
	}
	p.settings = filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(p.settings, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.env = append(os.Environ(), "OPENSANDBOX_ENV_FILE="+p.settings)
	p.run("../../scripts/compose-images.sh", "otlp-sink")
	t.Cleanup(func() {
		// Also when up has failed: what it has printed is searched at the end of the suite.
		p.listSecrets()
		if t.Failed() {
			p.tellLogs()
		}
		_, _ = p.try(script, "down", "--volumes")
	})
	return p
}

// listSecrets lists the secrets among the settings for the search of what the suite writes, and returns how many there are.
func (p *platform) listSecrets() (n int) {
	text, err := os.ReadFile(p.settings)
	if err != nil {
		p.t.Error(err)
	}
	for line := range strings.Lines(string(text)) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), "="); name {
		case "API_KEY", "SHARED_SECRET", "REDIS_PASSWORD":
			secrettest.Note("the "+name+" of the platform", value)
			n++
		}
	}
	return n
}

// logsAreQuiet: no service has written a secret of this test into its log.
func (p *platform) logsAreQuiet() {
	p.t.Helper()
	for _, id := range p.lines("docker", "ps", "-aq", "--filter", "label=com.docker.compose.project="+p.project) {
		name := strings.TrimSpace(p.run("docker", "inspect", "-f", "{{.Name}}", id))
		secrettest.Absent(p.t, "the log of "+name, p.run("docker", "logs", id))
	}
}

// tellLogs shows how the services ended, for the one who looks for the reason.
func (p *platform) tellLogs() {
	for _, id := range p.lines("docker", "ps", "-aq", "--filter", "label=com.docker.compose.project="+p.project) {
		name, _ := p.try("docker", "inspect", "-f", "{{.Name}} {{.State.Status}} {{.State.ExitCode}}", id)
		log, _ := p.try("docker", "logs", "--tail", "40", id)
		p.t.Logf("%s\n%s", name, log)
	}
}

// try runs a command and returns what it prints.
func (p *platform) try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.t.Context()), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = p.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (p *platform) run(name string, args ...string) string {
	p.t.Helper()
	out, err := p.try(name, args...)
	if err != nil {
		p.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (p *platform) lines(name string, args ...string) []string {
	p.t.Helper()
	return strings.Fields(p.run(name, args...))
}

// container returns the id of a service's container.
func (p *platform) container(service string) string {
	p.t.Helper()
	ids := p.lines("docker", "ps", "-q", "--filter", "label=com.docker.compose.project="+p.project, "--filter", "label=com.docker.compose.service="+service)
	if len(ids) != 1 {
		p.t.Fatalf("service %s has the containers %q", service, ids)
	}
	return ids[0]
}

// eventually polls until done.
func (p *platform) eventually(what string, done func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
