//go:build e2e

package acceptance

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/secrettest"
	"opensandbox/tests/process"
)

// TestSplitRedisWithTLS runs everything on a Redis with TLS and a user of its own, beside another installation, and starts programs that have
// a part of that wrong. All programs say what they are set up to, without secrets, and whether they are healthy.
func TestSplitRedisWithTLS(t *testing.T) {
	certs, password := redistest.NewCertificates(t), secrettest.New("the password of the user of Redis")
	redis := redistest.Start(t, redistest.Options{TLS: certs, User: "osb", Password: password})
	s := newSplit(t, "")
	at := func(user, password string) string {
		return fmt.Sprintf("rediss://%s:%s@%s/0", user, url.QueryEscape(password), redis.Addr())
	}
	s.split.RedisURL = at("osb", password)
	trust := "SSL_CERT_FILE=" + certs.CAFile
	for _, p := range s.programs {
		p.env = append(p.env, trust, fmt.Sprintf("OPENSANDBOX_SERVER_ADMIN_LISTEN=127.0.0.1:%d", process.FreePort(t)))
	}
	s.run()
	s.cleanUp()
	id := s.create(nil)
	_, token := s.endpoint(id, 44772)
	if out := output(s.stream(s.split.router+"/"+id+"/44772", token, m{"command": "echo routed"}), "stdout"); out != "routed\n" {
		t.Errorf("command through the router: %q", out)
	}
	for _, p := range s.programs {
		s.eventually(p.name+" is healthy", func() bool {
			out, err := s.flagged(p, "--health")
			return err == nil && string(out) == "healthy\n"
		})
		s.tellsOfItself(p)
	}

	redis.Do("ACL", "SETUSER", "poor", "on", ">"+password, "~osb:*", "&osb:*", "-@all", "+@connection", "+@read")
	for _, c := range []struct{ name, url, trust, want string }{
		{"wrong-password", at("osb", secrettest.New("a wrong password")), trust, "refuses the user or the password"},
		{"unknown-user", at("nobody", password), trust, "refuses the user or the password"},
		{"unknown-authority", at("osb", password), "SSL_CERT_FILE=/dev/null", "certificate is not trusted"},
		{"poor", at("poor", password), trust, "may not do what is needed"},
		{"too-old", "redis://" + oldRedis(t) + "/0", trust, "Redis 5.0.14 is too old"},
	} {
		for _, kind := range []string{"api", "scheduler", "router"} {
			said := s.ends(&program{name: c.name + "-" + kind, binary: service(t, kind), env: []string{"OPENSANDBOX_STORE_REDIS_URL=" + c.url, c.trust,
				fmt.Sprintf("OPENSANDBOX_SERVER_PORT=%d", process.FreePort(t)), fmt.Sprintf("OPENSANDBOX_ROUTER_LISTEN=127.0.0.1:%d", process.FreePort(t))}})
			if found := secrettest.NewSearch(secrettest.Used()).In([]byte(said)); !strings.Contains(said, c.want) || len(found) > 0 {
				t.Errorf("%s: %s says\n%s\nwant %q and no secret; it has %q", c.name, kind, said, c.want, found)
			}
		}
	}
	s.besideAnother(trust, id)
}

// besideAnother starts an api of another installation on the same Redis: neither sees what the other has.
func (s *server) besideAnother(trust, id string) {
	s.t.Helper()
	port := process.FreePort(s.t)
	base := fmt.Sprintf("http://127.0.0.1:%d/v1/sandboxes", port)
	other := &program{name: "other-installation", binary: service(s.t, "api"), env: []string{trust, fmt.Sprintf("OPENSANDBOX_SERVER_PORT=%d", port),
		"OPENSANDBOX_SERVER_INSTALLATION_ID=" + s.split.Installation + "-2", "OPENSANDBOX_INTERNAL_SHARED_SECRET=" + secrettest.New("another shared secret")}}
	other.run(s.t, s.dir, s.configFile())
	ask := func(method, path string, body any) answer {
		a, _ := request(method, base+path, body, "OPEN-SANDBOX-API-KEY", apiKey, "Prefer", "respond-async") // it may not listen yet
		return a
	}
	s.eventually("the api of the other installation answers", func() bool { return ask("GET", "", nil).status == http.StatusOK })
	for _, method := range []string{"GET", "DELETE"} {
		if a := ask(method, "/"+id, nil); a.status != http.StatusNotFound {
			s.t.Errorf("%s by the other installation: %v", method, a)
		}
	}
	a := ask("POST", "", spec(nil))
	if a.status != http.StatusAccepted {
		s.t.Errorf("create by the other installation: %v", a)
	}
	theirs := a.text("id")
	if got := s.state(theirs); got != "404" || s.state(id) != "Running" {
		s.t.Errorf("the sandbox of the other installation is %s here, and ours is %s", got, s.state(id))
	}
	if got := strings.Join(ids(s.items("")), " "); got != id {
		s.t.Errorf("this installation lists %q, want %s", got, id)
	}
	if a := ask("DELETE", "/"+theirs, nil); a.status != http.StatusNoContent {
		s.t.Errorf("delete by the other installation: %v", a)
	}
	other.stop(s.t)
}

// tellsOfItself asks a program about its configuration.
func (s *server) tellsOfItself(p *program) {
	s.t.Helper()
	for _, c := range []struct{ flag, want string }{
		{"--check-config", "configuration is valid"}, {"--print-config", s.split.Installation},
	} {
		out, err := s.flagged(p, c.flag)
		if found := secrettest.NewSearch(secrettest.Used()).In(out); err != nil || !strings.Contains(string(out), c.want) || len(found) > 0 {
			s.t.Errorf("%s %s: %v; want %q and no secret; it has %q:\n%s", p.name, c.flag, err, c.want, found, out)
		}
	}
	wrong := &program{binary: p.binary, env: append(slices.Clone(p.env), "OPENSANDBOX_STORE_TYPE=papyrus")}
	if out, err := s.flagged(wrong, "--check-config"); err == nil || !strings.Contains(string(out), "OPENSANDBOX_STORE_TYPE") {
		s.t.Errorf("%s --check-config of what is wrong: %v\n%s", p.name, err, out)
	}
}

// flagged calls a program with its configuration and a flag, and returns what it prints.
func (s *server) flagged(p *program, flag string) ([]byte, error) {
	cmd := process.Command(p.env, p.binary, flag, "--config", s.configFile())
	return cmd.CombinedOutput()
}

// oldRedis returns the address of a server that says it is a Redis of before what is needed.
func oldRedis(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerAsOld(c)
		}
	}()
	return l.Addr().String()
}

// answerAsOld answers commands until the connection ends.
func answerAsOld(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		words, err := lineNumber(r, "*")
		if err != nil {
			return
		}
		command := make([]string, words)
		for i := range command {
			size, err := lineNumber(r, "$")
			if err != nil {
				return
			}
			word := make([]byte, size+len("\r\n"))
			if _, err := io.ReadFull(r, word); err != nil {
				return
			}
			command[i] = strings.ToLower(string(word[:size]))
		}
		answer := "+OK\r\n"
		switch command[0] {
		case "hello":
			answer = "-ERR unknown command\r\n"
		case "info":
			const info = "# Server\r\nredis_version:5.0.14\r\n"
			answer = fmt.Sprintf("$%d\r\n%s\r\n", len(info), info)
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// lineNumber reads a line that is a sign and a number.
func lineNumber(r *bufio.Reader, sign string) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(line), sign))
}
