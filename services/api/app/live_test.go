package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"opensandbox/libs/agentrpc"
	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
)

// agents is the reader of a test: every sandbox has the same.
type agents struct {
	lines  []string
	in     agentrpc.Inspection
	events []agentrpc.Event
	err    error
	asked  []agentrpc.Ref
}

func (a *agents) Logs(_ context.Context, r agentrpc.Ref, n int) ([]string, error) {
	a.asked = append(a.asked, r)
	return a.lines[max(0, len(a.lines)-n):], a.err
}

func (a *agents) Inspect(_ context.Context, r agentrpc.Ref) (agentrpc.Inspection, error) {
	a.asked = append(a.asked, r)
	return a.in, a.err
}

func (a *agents) Events(_ context.Context, r agentrpc.Ref, n int) ([]agentrpc.Event, error) {
	a.asked = append(a.asked, r)
	return a.events[max(0, len(a.events)-n):], a.err
}

// descriptor is the answer to a request with a scope.
type descriptor struct {
	SandboxID, Kind, Scope, Delivery, ContentType, Content string
	ContentLength                                          int
	Truncated                                              bool
	Warnings                                               []string
}

func diagnosed(t *testing.T) (*bench, *agents, sandbox.ID) {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	code := 3
	a := &agents{
		lines: []string{"one", "two", "drei é"},
		in: agentrpc.Inspection{Phase: executor.Exited, Epoch: 1, ExitCode: &code, OOMKilled: true, StartedAt: at, FinishedAt: at.Add(time.Minute),
			Image: "busybox", Addresses: sandbox.Addresses{ContainerIP: "172.17.0.9", Ports: map[int]int{44772: 40001, 8080: 40002}}},
		events: []agentrpc.Event{{At: at, Action: executor.ActionCreated}, {At: at.Add(time.Minute), Action: "died", ExitCode: &code}},
	}
	b := newBench(t, func(_ *Config, d *Deps) { d.Live = a })
	made := b.read(b.do("POST", "/v1/sandboxes",
		`{"image":{"uri":"busybox"},"entrypoint":["a"],"resourceLimits":{"cpu":"500m","memory":"512Mi"},"metadata":{"team":"x"},"env":{"PLAIN":"`+secrettest.New("a value of the environment")+`"}}`,
		"Prefer", "respond-async"), http.StatusAccepted)
	b.run(made.ID, "n")
	return b, a, made.ID
}

// text asks for one of the older forms.
func (b *bench) text(id sandbox.ID, what string, deprecated bool) string {
	b.t.Helper()
	w := b.do("GET", fmt.Sprintf("/v1/sandboxes/%s/diagnostics/%s", id, what), "")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" || (w.Header().Get("Deprecation") == "true") != deprecated {
		b.t.Fatalf("%s: %d %v %s", what, w.Code, w.Header(), w.Body)
	}
	return w.Body.String()
}

func (b *bench) described(id sandbox.ID, what string) descriptor {
	b.t.Helper()
	w := b.do("GET", fmt.Sprintf("/v1/sandboxes/%s/diagnostics/%s", id, what), "")
	var d descriptor
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != http.StatusOK || w.Header().Get("Deprecation") != "" {
		b.t.Fatalf("%s: %d %v %s", what, w.Code, w.Header(), w.Body)
	}
	return d
}

func TestDiagnosticTexts(t *testing.T) {
	t.Parallel()
	b, a, id := diagnosed(t)
	if got := b.text(id, "logs?tail=2&since=5m&container=x", true); got != "two\ndrei é" {
		t.Errorf("logs: %q", got)
	}
	if diff := cmp.Diff([]agentrpc.Ref{{Node: "n", ID: id, Epoch: 1}}, a.asked); diff != "" {
		t.Errorf("asked (-want +got)\n%s", diff)
	}
	events := b.text(id, "events?limit=10", true)
	for _, want := range []string{"2026-01-02T03:04:05Z container created\n", "container died, exit code 3", "asked for", "Running CONTAINER_RUNNING"} {
		if !strings.Contains(events, want) {
			t.Errorf("events: no %q in\n%s", want, events)
		}
	}
	if got := b.text(id, "events?limit=1", true); strings.Count(got, "\n") != 0 {
		t.Errorf("events: %q", got)
	}
	inspect := b.text(id, "inspect", false)
	for _, want := range []string{string(id), "busybox", "exited", "OOM killed:    true", "Exit code:     3", "CPU: 0.50 cores", "Memory: 512 MiB", "172.17.0.9",
		"44772/tcp -> 40001", "team=x", "  PLAIN\n", "n (placement 1)"} {
		if !strings.Contains(inspect, want) {
			t.Errorf("inspect: no %q in\n%s", want, inspect)
		}
	}
	summary := b.text(id, "summary?tail=1&event_limit=5", false)
	if !strings.HasSuffix(summary, "drei é\n") || strings.Contains(summary, "\ntwo") || !strings.Contains(summary, strings.Repeat("=", 72)) ||
		!strings.Contains(summary, "INSPECT\n"+strings.Repeat("-", 40)) {
		t.Errorf("summary:\n%s", summary)
	}
	for what, text := range map[string]string{"inspect": inspect, "summary": summary} {
		secrettest.Absent(t, what, text)
	}
	a.lines = nil
	if got := b.text(id, "logs", true); got != "(no logs)" {
		t.Errorf("no logs: %q", got)
	}
}

func TestDiagnosticDescriptors(t *testing.T) {
	t.Parallel()
	b, a, id := diagnosed(t)
	want := descriptor{SandboxID: string(id), Kind: "logs", Scope: "container", Delivery: "inline", ContentType: "text/plain; charset=utf-8",
		Content: "one\ntwo\ndrei é", ContentLength: 15}
	if diff := cmp.Diff(want, b.described(id, "logs?scope=+Container")); diff != "" {
		t.Errorf("logs (-want +got)\n%s", diff)
	}
	for i := range 200 {
		a.lines = append(a.lines, fmt.Sprint("line ", i))
	}
	got := b.described(id, "logs?scope=all&tail=1")
	if !got.Truncated || strings.Count(got.Content, "\n") != 99 || !strings.HasSuffix(got.Content, "line 199") || len(got.Warnings) != 1 {
		t.Errorf("many logs: truncated %v, %d lines, warnings %q", got.Truncated, strings.Count(got.Content, "\n")+1, got.Warnings)
	}
	got = b.described(id, "events?scope=runtime")
	if got.Kind != "events" || got.Truncated || len(got.Warnings) != 0 || !strings.Contains(got.Content, "container died") {
		t.Errorf("events: %+v", got)
	}
	if got = b.described(id, "events?scope=all"); len(got.Warnings) != 1 {
		t.Errorf("events: warnings %q", got.Warnings)
	}
}

func TestDiagnosticQueries(t *testing.T) {
	t.Parallel()
	b, _, id := diagnosed(t)
	for path, want := range map[string]struct {
		status int
		code   string
	}{
		"%s/diagnostics/logs?tail=0":               {400, "INVALID_REQUEST"},
		"%s/diagnostics/logs?tail=10001":           {400, "INVALID_REQUEST"},
		"%s/diagnostics/logs?tail=0&scope=network": {400, "INVALID_REQUEST"},
		"%s/diagnostics/logs?scope=":               {400, "DIAGNOSTICS_SCOPE_UNSUPPORTED"},
		"%s/diagnostics/logs?scope=runtime":        {400, "DIAGNOSTICS_SCOPE_UNSUPPORTED"},
		"unknown/diagnostics/logs?scope=x":         {400, "DIAGNOSTICS_SCOPE_UNSUPPORTED"},
		"%s/diagnostics/events?limit=501":          {400, "INVALID_REQUEST"},
		"%s/diagnostics/events?scope=container":    {400, "DIAGNOSTICS_SCOPE_UNSUPPORTED"},
		"%s/diagnostics/summary?event_limit=x":     {400, "INVALID_REQUEST"},
		"%s/diagnostics/summary?tail=%%zz":         {400, "INVALID_REQUEST"},
		"%s/diagnostics/logs?%%zz":                 {400, "INVALID_REQUEST"},
		"unknown/diagnostics/logs":                 {404, "DOCKER::SANDBOX_NOT_FOUND"},
		"unknown/diagnostics/events?scope=all":     {404, "DOCKER::SANDBOX_NOT_FOUND"},
		"unknown/diagnostics/inspect":              {404, "DOCKER::SANDBOX_NOT_FOUND"},
		"unknown/diagnostics/summary":              {404, "DOCKER::SANDBOX_NOT_FOUND"},
	} {
		path = "/v1/sandboxes/" + strings.ReplaceAll(strings.ReplaceAll(path, "%s", string(id)), "%%", "%")
		if got := b.read(b.do("GET", path, ""), want.status); got.Code != want.code {
			t.Errorf("%s: %+v, want %s", path, got, want.code)
		}
	}
}

func TestDiagnosticsWithoutAnAgent(t *testing.T) {
	t.Parallel()
	b, a, id := diagnosed(t)
	path := "/v1/sandboxes/" + string(id) + "/diagnostics/"
	a.err = fault.New(fault.Unavailable, "the node of the sandbox does not answer").RetryAfter(time.Second)
	w := b.do("GET", path+"logs", "")
	if got := b.read(w, http.StatusServiceUnavailable); w.Header().Get("Retry-After") != "1" || got.Message == "" {
		t.Errorf("logs: %+v %v", got, w.Header())
	}
	for _, what := range []string{"inspect", "summary"} {
		if got := b.text(id, what, false); !strings.Contains(got, "busybox") || !strings.Contains(got, "does not answer") {
			t.Errorf("%s:\n%s", what, got)
		}
	}
	if got := b.described(id, "events?scope=runtime"); len(got.Warnings) != 1 || !strings.Contains(got.Content, "not complete") {
		t.Errorf("events: %+v", got)
	}
	a.err = errors.New("topsecret")
	w = b.do("GET", path+"logs", "")
	if got := b.read(w, http.StatusInternalServerError); got.Code != "DOCKER::SANDBOX_QUERY_FAILED" || strings.Contains(w.Body.String(), "topsecret") {
		t.Errorf("logs: %s", w.Body)
	}
	if got := b.text(id, "inspect", false); strings.Contains(got, "topsecret") {
		t.Errorf("inspect:\n%s", got)
	}
	// The container is gone, the record is not.
	a.err = fault.New(fault.NotFound, "no container")
	if got := b.text(id, "logs", true); got != "(no logs)" {
		t.Errorf("logs: %q", got)
	}
	without := newBench(t, nil)
	b.read(without.do("GET", path+"logs", ""), http.StatusNotImplemented)
}

// What has ended is not in get and list any more, and can still be asked about.
func TestDiagnosticsOfWhatHasEnded(t *testing.T) {
	t.Parallel()
	b, a, _ := diagnosed(t)
	id := b.pending()
	_, err := b.store.FailUnplaced(t.Context(), id, sandbox.Failure{Reason: sandbox.ReasonNoCapacity, Message: "no node has room:\nn: cpu", RetainFor: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.store.SetGone(t.Context(), id, sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	b.read(b.do("GET", "/v1/sandboxes/"+string(id), ""), http.StatusNotFound)
	a.asked = nil
	if got := b.text(id, "logs", true); got != "no node has room:\nn: cpu" {
		t.Errorf("logs: %q", got)
	}
	if got := b.text(id, "inspect", false); !strings.Contains(got, "ended") || !strings.Contains(got, "NO_CAPACITY") {
		t.Errorf("inspect:\n%s", got)
	}
	if got := b.text(id, "events", true); !strings.Contains(got, "removed: DELETED") || !strings.Contains(got, "(no notable events)") {
		t.Errorf("events: %q", got)
	}
	if len(a.asked) != 0 {
		t.Errorf("the agents were asked for %v", a.asked)
	}
}

// TestDiagnosticsOverTheWire asks an agent's internal API instead of the reader itself.
func TestDiagnosticsOverTheWire(t *testing.T) {
	t.Parallel()
	secret := secrettest.New("the shared secret")
	b, a, id := diagnosed(t)
	handler, err := agentrpc.NewHandler(agentrpc.ServerConfig{Node: "n", Secret: secret, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}, a)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	n := node.Registration{Name: "n", EngineID: "e", Address: server.Listener.Addr().String(), PortMin: 40000, PortMax: 40100, TakeOver: true}
	if _, err := b.store.Register(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	for given, status := range map[string]int{secret: http.StatusOK, secrettest.New("another shared secret"): http.StatusInternalServerError} {
		client, err := agentrpc.NewClient(b.store, given)
		if err != nil {
			t.Fatal(err)
		}
		remote := newBench(t, func(_ *Config, d *Deps) { d.Live = client })
		remote.store.Store = b.store.Store
		w := remote.do("GET", "/v1/sandboxes/"+string(id)+"/diagnostics/logs?tail=2", "")
		if w.Code != status || (status == http.StatusOK) != (w.Body.String() == "two\ndrei é") {
			t.Errorf("logs with the right secret, %t: %d %s", given == secret, w.Code, w.Body)
		}
		if status == http.StatusOK {
			if got := remote.text(id, "summary", false); !strings.Contains(got, "container died, exit code 3") || !strings.Contains(got, "OOM killed:    true") {
				t.Errorf("summary:\n%s", got)
			}
		}
		client.Close()
	}
}
