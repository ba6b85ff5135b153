//go:build e2e

package acceptance

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"opensandbox/tests/process"
)

// balancer is haproxy with the configuration of docker-compose.yml in front of the apis, and of the routers by the same rules: what it
// repeats, and how soon it turns away from a process that leaves, is what operators get.
type balancer struct {
	t *testing.T
	// api and router are its base URLs; metrics says what it thinks of the processes behind it.
	api, router, metrics string
}

// drainDelay is that of the apis in docker-compose.yml, in seconds; haproxy notices sooner that a process is leaving.
const drainDelay = 3

// balance starts the balancer.
func (s *server) balance() *balancer {
	s.t.Helper()
	port := [3]int{process.FreePort(s.t), process.FreePort(s.t), process.FreePort(s.t)}
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", port[i]) }
	b := &balancer{t: s.t, api: "http://" + at(0), router: "http://" + at(1), metrics: "http://" + at(2) + "/metrics"}
	text, err := os.ReadFile("../../deployments/haproxy/haproxy.cfg")
	if err != nil {
		s.t.Fatal(err)
	}
	config := replaceOnce(s.t, string(text), "bind :8080", "bind "+at(0), "bind :8404", "bind "+at(2))
	begin, end := strings.Index(config, "\nbackend replicas\n")+1, strings.Index(config, "# Metrics for Prometheus")
	if begin == 0 || end < begin {
		s.t.Fatalf("the configuration of haproxy has no backend, or it is not where it was:\n%s", config)
	}
	replicas := config[begin:end]
	apis := replaceOnce(s.t, replicas, `server api-1 "$API_1":8080`, "server api-0 "+authority(s.split.apis[0]), `server api-2 "$API_2":8080`, "server api-1 "+authority(s.split.apis[1]))
	routers := replaceOnce(s.t, replicas, "backend replicas", "frontend router\n    bind "+at(1)+"\n    default_backend routers\n\nbackend routers",
		`server api-1 "$API_1":8080`, "server router-0 "+authority(s.split.routers[0]), `server api-2 "$API_2":8080`, "server router-1 "+authority(s.split.routers[1]))
	file := filepath.Join(s.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config[:begin]+apis+routers+config[end:]), 0o600); err != nil {
		s.t.Fatal(err)
	}
	p := &program{name: "haproxy", binary: "haproxy", args: []string{"-db", "-f", file}}
	p.run(s.t, s.dir, "")
	for _, p := range []string{"api-0", "api-1", "router-0", "router-1"} {
		s.eventually("haproxy (Debian: haproxy) uses "+p, func() bool { return b.uses(p) })
	}
	return b
}

// authority is host and port of a base URL.
func authority(base string) string { return strings.TrimPrefix(base, "http://") }

// replaceOnce replaces texts, given in pairs of old and new, each of which must be there once.
func replaceOnce(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if strings.Count(text, pairs[i]) != 1 {
			t.Fatalf("%q is not there once in:\n%s", pairs[i], text)
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return text
}

// uses reports whether the balancer sends requests to a process.
func (b *balancer) uses(name string) bool {
	a, err := request(http.MethodGet, b.metrics, nil)
	kind, _, _ := strings.Cut(name, "-")
	backend := map[string]string{"api": "replicas", "router": "routers"}[kind]
	return err == nil && strings.Contains(string(a.body), fmt.Sprintf("haproxy_server_status{proxy=%q,server=%q,state=\"UP\"} 1", backend, name))
}

// tellsTheClient checks that an application sees the address of the client and not that of the balancer, which the apis trust by default
// because it is on this machine.
func (b *balancer) tellsTheClient(s *server, id string) {
	b.t.Helper()
	const from = "127.0.0.2"
	const app = `(printf 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n' | nc -l -p 9124 >/tmp/request) >/dev/null 2>&1 &`
	s.shell(id, app)
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	other := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}, Timeout: patience}
	s.eventually("the application answers", func() bool {
		req, err := http.NewRequest(http.MethodGet, b.api+"/v1/sandboxes/"+id+"/proxy/9124/", nil)
		if err != nil {
			b.t.Fatal(err)
		}
		req.Header.Set("OPEN-SANDBOX-API-KEY", apiKey)
		req.Header.Set("X-Forwarded-For", "192.0.2.1") // anybody can say that
		res, err := other.Do(req)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	// The way to a sandbox on another node is through its daemon, which adds who has asked it.
	first := regexp.MustCompile(`(?i)\nx-forwarded-for: ` + regexp.QuoteMeta(from) + `(, [0-9.]+)?\r\n`)
	if got := output(s.shell(id, "cat /tmp/request"), "stdout"); !first.MatchString(got) {
		b.t.Errorf("the application sees\n%s\nwant the client %s", got, from)
	}
}
