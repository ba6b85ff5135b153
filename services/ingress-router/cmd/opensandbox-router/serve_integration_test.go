//go:build integration

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"opensandbox/libs/cli"
	"opensandbox/libs/node"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const installationID = "router-test"

// instance is the program, running.
type instance struct {
	address, admin string
	// stop ends it and returns its exit code.
	stop func() int
}

// run starts the program as cli.Main does, with these variables, and waits until it serves.
func run(t *testing.T, variables map[string]string) *instance {
	t.Helper()
	variables["HOME"] = t.TempDir()
	lookup := func(name string) (string, bool) { v, ok := variables[name]; return v, ok }
	ctx, cancel := context.WithCancel(context.Background())
	logs, sink := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- cli.Run(ctx, program(lookup, sink), cli.System{Lookup: lookup, Stdout: sink, Stderr: sink})
		_ = sink.Close()
	}()
	ended := make(chan struct{})
	served := make(chan string, 1)
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(logs)
		for lines.Scan() {
			t.Log(lines.Text())
			var line struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
				served <- line.Address
			}
		}
		close(served)
	}()
	i := &instance{admin: variables["OPENSANDBOX_SERVER_ADMIN_LISTEN"]}
	stopped := false
	i.stop = func() int {
		stopped = true
		cancel()
		<-ended
		return <-code
	}
	t.Cleanup(func() {
		if !stopped {
			i.stop()
		}
	})
	if i.address = <-served; i.address == "" {
		t.Fatal("the program ended before it served")
	}
	return i
}

func environment(t *testing.T, r *redistest.Server, more ...string) map[string]string {
	t.Helper()
	v := map[string]string{
		"OPENSANDBOX_STORE_TYPE": "redis", "OPENSANDBOX_STORE_REDIS_URL": "redis://" + r.Addr(), "OPENSANDBOX_SERVER_INSTALLATION_ID": installationID,
		"OPENSANDBOX_ROUTER_LISTEN": "127.0.0.1:0", "OPENSANDBOX_SERVER_ADMIN_LISTEN": freeAddress(t), "OPENSANDBOX_LOG_FORMAT": "json",
		"OPENSANDBOX_RENEW_INTENT_ENABLED": "true",
	}
	for i := 0; i < len(more); i += 2 {
		v[more[i]] = more[i+1]
	}
	return v
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// plane stands for the other processes: it writes what they would.
type plane struct {
	*redisstore.Store
	session uint64
}

func newPlane(t *testing.T, r *redistest.Server) *plane {
	t.Helper()
	store, err := redisstore.Open(t.Context(), redisstore.Config{Client: r.Client(), Installation: installationID, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	n, err := store.Register(t.Context(), node.Registration{Name: "n1", EngineID: "e1", PortMin: 40000, PortMax: 49999, Host: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{store, n.Session}
	ctx, cancel := context.WithCancel(context.Background())
	var agent sync.WaitGroup
	agent.Go(func() { p.renew(ctx) })
	t.Cleanup(func() {
		cancel()
		agent.Wait()
	})
	return p
}

// renew keeps the node alive, as its agent would.
func (p *plane) renew(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = p.RenewLease(ctx, "n1", p.session) // Redis may be away
		}
	}
}

// run makes a sandbox that is answered at this port.
func (p *plane) run(t *testing.T, id sandbox.ID, port int) {
	t.Helper()
	if _, err := p.Insert(t.Context(), sandbox.New{ID: id, Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"true"}}, Accepted: true}); err != nil {
		t.Fatal(err)
	}
	c := sandbox.Candidate{Node: "n1", PortMin: 40000, PortMax: 49999}
	if _, err := p.Place(t.Context(), sandbox.PlaceRequest{ID: id, Candidates: []sandbox.Candidate{c}}); err != nil {
		t.Fatal(err)
	}
	p.see(t, id, port)
}

func (p *plane) see(t *testing.T, id sandbox.ID, port int) {
	t.Helper()
	_, err := p.Report(t.Context(), sandbox.Report{
		ID: id, Node: "n1", Epoch: 1, Session: p.session, Generation: 1, State: sandbox.StateRunning,
		Addresses: sandbox.Addresses{Ports: map[int]int{44772: port, 8080: port}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func application(t *testing.T, text string) int {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, text+r.RequestURI) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come to pass that %s", what)
		}
	}
}

func TestServes(t *testing.T) {
	r := redistest.Start(t, redistest.Options{})
	p := newPlane(t, r)
	p.run(t, "sb", application(t, "one "))
	i := run(t, environment(t, r))
	url := "http://" + i.address
	if status, body := get(t, url+"/sb/8080/a%2Fb"); status != 200 || body != "one /a%2Fb" {
		t.Errorf("%d %q", status, body)
	}
	if status, body := get(t, url+"/unknown/8080/"); status != 404 || !strings.Contains(body, "sandbox not found") {
		t.Errorf("unknown: %d %q", status, body)
	}
	p.see(t, "sb", application(t, "two "))
	until(t, "the change is noticed", func() bool { _, body := get(t, url+"/sb/8080/"); return body == "two /" })

	key := redisstore.RenewIntentsKey(installationID)
	until(t, "the use is told", func() bool { return r.Do("LLEN", key) == int64(1) })
	if intent, _ := r.Do("RPOP", key).(string); !strings.HasPrefix(intent, `{"sandbox_id":"sb",`) {
		t.Errorf("told: %s", intent)
	}

	for path, want := range map[string]string{
		"/health": "healthy", "/ready": "ready", "/metrics": `opensandbox_router_requests_total{kind="http",outcome="not_found"} 1`,
	} {
		if status, body := get(t, "http://"+i.admin+path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("admin %s: %d without %s", path, status, want)
		}
	}
	if _, body := get(t, "http://"+i.admin+"/metrics"); !strings.Contains(body, `opensandbox_store_operation_duration_seconds_count{operation="get",outcome="ok"}`) {
		t.Error("the store is not measured")
	}
	if code := i.stop(); code != cli.ExitOK {
		t.Errorf("exit code %d", code)
	}
}

// While Redis is away, traffic to known sandboxes goes on, and the router takes up again by itself.
func TestRedisIsAway(t *testing.T) {
	// What was answered has to last, or the records would be gone with the server.
	r := redistest.Start(t, redistest.Options{Args: []string{"--appendfsync", "always"}})
	p := newPlane(t, r)
	port := application(t, "")
	p.run(t, "known", port)
	p.run(t, "unknown", port)
	i := run(t, environment(t, r))
	url := "http://" + i.address
	if status, body := get(t, url+"/known/8080/"); status != 200 {
		t.Fatalf("before: %d %s", status, body)
	}
	r.Kill()
	for range 5 {
		if status, body := get(t, url+"/known/8080/"); status != 200 {
			t.Errorf("known: %d %s", status, body)
		}
		if status, body := get(t, url+"/unknown/8080/"); status != 503 {
			t.Errorf("unknown: %d %s", status, body)
		}
	}
	if status, body := get(t, "http://"+i.admin+"/ready"); status != 200 {
		t.Errorf("ready while something is known: %d %s", status, body)
	}
	r.Start()
	last := ""
	defer func() {
		if t.Failed() {
			t.Logf("the last answer was %s", last)
		}
	}()
	until(t, "the store is back", func() (ok bool) {
		var status int
		status, last = get(t, url+"/unknown/8080/")
		return status == 200
	})
}

// Other gateways and consumers may share a list of another Redis.
func TestRenewalsToAListOfTheirOwn(t *testing.T) {
	password := secrettest.New("the password of another Redis")
	r, other := redistest.Start(t, redistest.Options{}), redistest.Start(t, redistest.Options{User: "gate", Password: password})
	newPlane(t, r).run(t, "sb", application(t, ""))
	i := run(t, environment(t, r, "OPENSANDBOX_RENEW_INTENT_REDIS_ENABLED", "true", "OPENSANDBOX_RENEW_INTENT_REDIS_DSN", "redis://gate:"+password+"@"+other.Addr(),
		"OPENSANDBOX_RENEW_INTENT_REDIS_QUEUE_KEY", "theirs"))
	if status, body := get(t, "http://"+i.address+"/sb/8080/"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	until(t, "the use is told", func() bool { return other.Do("LLEN", "theirs") == int64(1) })
}

func TestRefusals(t *testing.T) {
	r := redistest.Start(t, redistest.Options{})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct {
		variables map[string]string
		want      string
	}{
		"no redis":      {map[string]string{}, "store.type: opensandbox-router shares its store"},
		"address taken": {environment(t, r, "OPENSANDBOX_ROUTER_LISTEN", taken.Addr().String()), "address already in use"},
	} {
		c.variables["HOME"] = t.TempDir()
		lookup := func(name string) (string, bool) { v, ok := c.variables[name]; return v, ok }
		var out, log strings.Builder
		if code := cli.Run(t.Context(), program(lookup, &log), cli.System{Lookup: lookup, Stdout: &out, Stderr: &out}); code != cli.ExitFailed {
			t.Errorf("%s: exit code %d", name, code)
		}
		if !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %q is not in:\n%s", name, c.want, out.String())
		}
	}
}
