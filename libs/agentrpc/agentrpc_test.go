package agentrpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"opensandbox/libs/agentrpc"
	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var secret = secrettest.New("the shared secret")

// agent answers what the test says.
type agent struct {
	ref    agentrpc.Ref
	n      int
	err    error
	lines  []string
	events []agentrpc.Event
	in     agentrpc.Inspection
	asked  atomic.Int64
}

func (a *agent) Logs(_ context.Context, r agentrpc.Ref, n int) ([]string, error) {
	a.asked.Add(1)
	a.ref, a.n = r, n
	return a.lines, a.err
}

func (a *agent) Inspect(_ context.Context, r agentrpc.Ref) (agentrpc.Inspection, error) {
	a.asked.Add(1)
	a.ref = r
	return a.in, a.err
}

func (a *agent) Events(_ context.Context, r agentrpc.Ref, n int) ([]agentrpc.Event, error) {
	a.asked.Add(1)
	a.ref, a.n = r, n
	return a.events, a.err
}

// nodes is a registry.
type nodes []node.Node

func (n nodes) Nodes(context.Context) ([]node.Node, error) { return n, nil }

// served returns an agent behind HTTP, and its address.
func served(t *testing.T, a agentrpc.LiveReader, clock func() time.Time) (address string) {
	t.Helper()
	h, err := agentrpc.NewHandler(agentrpc.ServerConfig{Node: "n", Secret: secret, Clock: clock, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}, a)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func client(t *testing.T, known nodes, secret string) *agentrpc.Client {
	t.Helper()
	c, err := agentrpc.NewClient(known, secret)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var ref = agentrpc.Ref{Node: "n", ID: "a b/c%", Epoch: 3}

func TestAnswers(t *testing.T) {
	t.Parallel()
	code, at := 137, time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	a := &agent{
		lines:  []string{"one", "zwei ü", ""},
		events: []agentrpc.Event{{At: at, Action: executor.ActionStarted}, {At: at.Add(time.Second), Action: executor.ActionEnded, ExitCode: &code}},
		in: agentrpc.Inspection{Phase: executor.Exited, Epoch: 3, ExitCode: &code, OOMKilled: true, StartedAt: at, FinishedAt: at.Add(time.Second),
			Addresses: sandbox.Addresses{ContainerIP: "172.17.0.2", Ports: map[int]int{80: 40000}}, Image: "busybox", Limits: sandbox.Resources{CPU: 500, Memory: 1 << 30}},
	}
	c := client(t, nodes{{Name: "other"}, {Name: "n", Address: served(t, a, nil)}}, secret)
	lines, err := c.Logs(t.Context(), ref, 100_000)
	if diff := cmp.Diff(a.lines, lines); diff != "" || err != nil || a.ref != ref || a.n != agentrpc.MaxLines {
		t.Errorf("Logs of %+v, %d: %v %s", a.ref, a.n, err, diff)
	}
	events, err := c.Events(t.Context(), ref, 7)
	if diff := cmp.Diff(a.events, events); diff != "" || err != nil || a.ref != ref || a.n != 7 {
		t.Errorf("Events of %+v, %d: %v %s", a.ref, a.n, err, diff)
	}
	in, err := c.Inspect(t.Context(), ref)
	if diff := cmp.Diff(a.in, in); diff != "" || err != nil || a.ref != ref {
		t.Errorf("Inspect of %+v: %v %s", a.ref, err, diff)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		kind fault.Kind
		code string
		text string
	}{
		"nothing there":     {fault.New(fault.NotFound, "no container").WithCode(sandbox.CodeNotFound), fault.NotFound, sandbox.CodeNotFound, "no container"},
		"engine away":       {fault.New(fault.Unavailable, "the container engine does not answer"), fault.Unavailable, "UNAVAILABLE", "the container engine does not answer"},
		"cannot":            {fault.New(fault.Unsupported, "no logs"), fault.Unsupported, "", "the runtime of this sandbox cannot do that"},
		"a bug":             {errors.New("secret detail"), fault.Internal, "", "internal error"},
		"a refusal of ours": {fault.New(fault.Invalid, "n: too small"), fault.Internal, "", "internal error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &agent{err: c.err}
			_, err := client(t, nodes{{Name: "n", Address: served(t, a, nil)}}, secret).Inspect(t.Context(), ref)
			if fault.KindOf(err) != c.kind || fault.TextOf(err) != c.text || (c.kind == fault.NotFound && fault.CodeOf(err) != c.code) || strings.Contains(err.Error(), "secret detail") {
				t.Errorf("%v, %q: %v", fault.KindOf(err), fault.CodeOf(err), err)
			}
		})
	}
}

func TestAgentsThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	strange := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/logs"):
			_, _ = io.WriteString(w, "no JSON")
		case strings.HasSuffix(r.URL.Path, "/events"):
			_, _ = io.Copy(w, io.LimitReader(zeros{}, 2<<20))
		default:
			http.Redirect(w, r, "http://elsewhere/", http.StatusFound)
		}
	}))
	t.Cleanup(strange.Close)
	known := nodes{{Name: "gone", Address: strings.TrimPrefix(gone.URL, "http://")}, {Name: "silent"}, {Name: "strange", Address: strings.TrimPrefix(strange.URL, "http://")}}
	c := client(t, known, secret)
	for name, kind := range map[string]fault.Kind{"gone": fault.Unavailable, "silent": fault.Unavailable, "unknown": fault.Unavailable, "": fault.NotFound, "strange": fault.Internal} {
		r := agentrpc.Ref{Node: name, ID: "a", Epoch: 1}
		_, err := c.Inspect(t.Context(), r)
		if !fault.Is(err, kind) || (kind == fault.Unavailable && fault.RetryAfterOf(err) <= 0) {
			t.Errorf("inspect on %q: %v (%v)", name, err, fault.KindOf(err))
		}
		if _, err := c.Logs(t.Context(), r, 1); !fault.Is(err, kind) {
			t.Errorf("logs on %q: %v", name, err)
		}
		if _, err := c.Events(t.Context(), r, 1); !fault.Is(err, kind) {
			t.Errorf("events on %q: %v", name, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Inspect(ended, agentrpc.Ref{Node: "gone", ID: "a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that was given up: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

func TestAnotherSecretIsRefused(t *testing.T) {
	t.Parallel()
	a := &agent{}
	_, err := client(t, nodes{{Name: "n", Address: served(t, a, nil)}}, secrettest.New("another shared secret")).Inspect(t.Context(), ref)
	if !fault.Is(err, fault.Internal) || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), "shared_secret") || a.asked.Load() != 0 {
		t.Errorf("%v, asked %d times", err, a.asked.Load())
	}
	if _, err := agentrpc.NewClient(nil, ""); err == nil {
		t.Error("a client without a secret")
	}
	if _, err := agentrpc.NewHandler(agentrpc.ServerConfig{}, a); err == nil {
		t.Error("a handler without a secret")
	}
}

// record passes a call on and keeps it.
type record struct{ last *http.Request }

func (r *record) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.last = q.Clone(context.WithoutCancel(q.Context()))
	http.Error(w, "{}", http.StatusServiceUnavailable)
}

// overheard returns a call as the client makes it.
func overheard(t *testing.T) *http.Request {
	t.Helper()
	ear := &record{}
	s := httptest.NewServer(ear)
	t.Cleanup(s.Close)
	_, _ = client(t, nodes{{Name: "n", Address: strings.TrimPrefix(s.URL, "http://")}}, secret).Logs(t.Context(), agentrpc.Ref{Node: "n", ID: "a", Epoch: 1}, 5)
	if ear.last == nil {
		t.Fatal("no call was made")
	}
	return ear.last
}

func TestForgedCalls(t *testing.T) {
	t.Parallel()
	heard := overheard(t)
	sig := heard.Header.Get(agentrpc.Header)
	parts := strings.Split(sig, ",")
	path := heard.URL.RequestURI()
	for name, c := range map[string]struct {
		method, target string
		headers        []string
		off            time.Duration
		status         int
	}{
		"as it was":             {"GET", path, []string{sig}, 0, 200},
		"a little later":        {"GET", path, []string{sig}, 58 * time.Second, 200},
		"too late":              {"GET", path, []string{sig}, 62 * time.Second, 401},
		"too early":             {"GET", path, []string{sig}, -62 * time.Second, 401},
		"no signature":          {"GET", path, nil, 0, 401},
		"an empty one":          {"GET", path, []string{""}, 0, 401},
		"two":                   {"GET", path, []string{sig, sig}, 0, 401},
		"another path":          {"GET", strings.Replace(path, "/logs", "/events", 1), []string{sig}, 0, 401},
		"another sandbox":       {"GET", strings.Replace(path, "/a/", "/b/", 1), []string{sig}, 0, 401},
		"another query":         {"GET", strings.Replace(path, "tail=5", "tail=6", 1), []string{sig}, 0, 401},
		"no query":              {"GET", heard.URL.Path, []string{sig}, 0, 401},
		"another method":        {"POST", path, []string{sig}, 0, 401},
		"another time":          {"GET", path, []string{parts[0] + ",1" + parts[1][1:] + "," + parts[2]}, 0, 401},
		"another version":       {"GET", path, []string{"v2," + parts[1] + "," + parts[2]}, 0, 401},
		"an upper case digit":   {"GET", path, []string{parts[0] + "," + parts[1] + "," + strings.ToUpper(parts[2])}, 0, 401},
		"a short one":           {"GET", path, []string{sig[:len(sig)-1]}, 0, 401},
		"a path with no route":  {"GET", "/", []string{sig}, 0, 401},
		"metrics are not there": {"GET", "/metrics", nil, 0, 401},
	} {
		if name == "another time" && parts[1][0] == '1' {
			c.headers = []string{parts[0] + ",2" + parts[1][1:] + "," + parts[2]}
		}
		a := &agent{}
		h, err := agentrpc.NewHandler(agentrpc.ServerConfig{Node: "n", Secret: secret, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
			Clock: func() time.Time { return time.Now().Add(c.off) }}, a)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(c.method, c.target, nil)
		r.Header[agentrpc.Header] = nil
		r.Header.Del(agentrpc.Header)
		for _, v := range c.headers {
			r.Header.Add(agentrpc.Header, v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var body struct{ Code, Message string }
		if w.Code != c.status || json.Unmarshal(w.Body.Bytes(), &body) != nil || (c.status == 401) != (body.Code == "UNAUTHENTICATED") || (a.asked.Load() > 0) != (c.status == 200) {
			t.Errorf("%s: %d %s, the agent was asked %d times", name, w.Code, w.Body, a.asked.Load())
		}
	}
	// A call that was made for another node does not reach this one either.
	h, err := agentrpc.NewHandler(agentrpc.ServerConfig{Node: "m", Secret: secret, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}, &agent{})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set(agentrpc.Header, sig)
	if h.ServeHTTP(w, r); w.Code != 401 {
		t.Errorf("a call for another node: %d", w.Code)
	}
}
