package app

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// troubled is a store that can refuse every call at once, or never answer.
type troubled struct {
	*memstore.Store
	trouble atomic.Int32
	// nodes counts the readings of the registry, all the other calls.
	nodes, all atomic.Int32
}

const (
	refuses = 1
	hangs   = 2
)

func (s *troubled) check(ctx context.Context) error {
	s.all.Add(1)
	switch s.trouble.Load() {
	case refuses:
		return fault.New(fault.Unavailable, "the store is not available")
	case hangs:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func checked[T any](ctx context.Context, s *troubled, do func() (T, error)) (T, error) {
	if err := s.check(ctx); err != nil {
		var none T
		return none, err
	}
	return do()
}

func (s *troubled) Insert(ctx context.Context, n sandbox.New) (sandbox.Record, error) {
	return checked(ctx, s, func() (sandbox.Record, error) { return s.Store.Insert(ctx, n) })
}

func (s *troubled) Accept(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return checked(ctx, s, func() (sandbox.Record, error) { return s.Store.Accept(ctx, id) })
}

func (s *troubled) SetDesired(ctx context.Context, id sandbox.ID, d sandbox.Desired, ifGeneration uint64) (sandbox.Record, error) {
	return checked(ctx, s, func() (sandbox.Record, error) { return s.Store.SetDesired(ctx, id, d, ifGeneration) })
}

func (s *troubled) SetGone(ctx context.Context, id sandbox.ID, reason string) (sandbox.Record, error) {
	return checked(ctx, s, func() (sandbox.Record, error) { return s.Store.SetGone(ctx, id, reason) })
}

func (s *troubled) Renew(ctx context.Context, id sandbox.ID, tenant string, at time.Time) (sandbox.Record, error) {
	return checked(ctx, s, func() (sandbox.Record, error) { return s.Store.Renew(ctx, id, tenant, at) })
}

func (s *troubled) PatchMetadata(ctx context.Context, id sandbox.ID, tenant string, patch map[string]*string) (sandbox.Record, error) {
	return checked(ctx, s, func() (sandbox.Record, error) { return s.Store.PatchMetadata(ctx, id, tenant, patch) })
}

func (s *troubled) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return checked(ctx, s, func() (sandbox.Record, error) { return s.Store.Get(ctx, id) })
}

func (s *troubled) List(ctx context.Context, q sandbox.Query) (sandbox.Page, error) {
	return checked(ctx, s, func() (sandbox.Page, error) { return s.Store.List(ctx, q) })
}

func (s *troubled) Now(ctx context.Context) (time.Time, error) {
	return checked(ctx, s, func() (time.Time, error) { return s.Store.Now(ctx) })
}

func (s *troubled) Nodes(ctx context.Context) ([]node.Node, error) {
	s.nodes.Add(1)
	return checked(ctx, s, func() ([]node.Node, error) { return s.Store.Nodes(ctx) })
}

// bench is an api without a listener, on a store with one node.
type bench struct {
	t       *testing.T
	store   *troubled
	session uint64
	handler http.Handler
	ready   *bounded
	log     *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// apiKey is that of the tests that need one, and token that of every daemon.
var apiKey, token = secrettest.New("the API key"), secrettest.New("the token of a daemon")

func newBench(t *testing.T, change func(*Config, *Deps)) *bench {
	t.Helper()
	b := &bench{t: t, store: &troubled{Store: memstore.New()}, log: &syncBuffer{}}
	b.register(node.Registration{Name: "n", EngineID: "e", PortMin: 40000, PortMax: 40100, Host: "n.example"})
	cfg := Config{PublicHost: "public", CreateWait: 20 * time.Second, StoreTimeout: 2 * time.Second, Version: "1"}
	deps := Deps{Registry: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(b.log, nil)),
		Token: func(sandbox.ID, uint64) string { return token }}
	if change != nil {
		change(&cfg, &deps)
	}
	b.ready = &bounded{Store: b.store, limit: cfg.StoreTimeout}
	deps.Store = b.ready
	h, _, err := newHandler(cfg, deps, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.handler = h
	return b
}

func (b *bench) register(r node.Registration) {
	b.t.Helper()
	n, err := b.store.Register(b.t.Context(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	b.session = n.Session
}

// do sends a request; header is names and values in turn.
func (b *bench) do(method, path, body string, header ...string) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequestWithContext(b.t.Context(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w
}

// answer is a part of every body that these tests look at.
type answer struct {
	Code, Message, SandboxID string
	ID                       sandbox.ID
	Status                   struct{ State, Reason string }
	Platform                 *struct{ OS, Arch string }
	Endpoint                 string
}

func (b *bench) read(w *httptest.ResponseRecorder, status int) answer {
	b.t.Helper()
	var a answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != status {
		b.t.Fatalf("%d %s, %v; want %d", w.Code, w.Body, err, status)
	}
	return a
}

const minimal = `"image":{"uri":"busybox"},"entrypoint":["sleep","60"],"resourceLimits":{}`

// pending creates a sandbox without waiting.
func (b *bench) pending() sandbox.ID {
	b.t.Helper()
	return b.read(b.do("POST", "/v1/sandboxes", `{`+minimal+`}`, "Prefer", "respond-async"), http.StatusAccepted).ID
}

// run makes a sandbox Running on the node that was registered last.
func (b *bench) run(id sandbox.ID, nodeName string) {
	b.t.Helper()
	r, err := b.store.Store.Place(b.t.Context(), sandbox.PlaceRequest{ID: id, Ports: []int{ExecdPort, AppPort},
		Candidates: []sandbox.Candidate{{Node: nodeName, PortMin: 40000, PortMax: 40100}}})
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = b.store.Store.Report(b.t.Context(), sandbox.Report{ID: id, Node: nodeName, Epoch: r.Placement.Epoch, Session: b.session,
		Generation: r.Intent.Generation, State: sandbox.StateRunning, Reason: sandbox.ReasonRunning, Addresses: sandbox.Addresses{Ports: r.Placement.Ports}})
	if err != nil {
		b.t.Fatal(err)
	}
}

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

func (b *bench) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b.log, nil)) }
