package app

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"opensandbox/libs/httpx"
	"opensandbox/libs/memstore"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/telemetry"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	const replayed, async = "Idempotent-Replayed", "respond-async"
	w := b.do("POST", "/v1/sandboxes", `{`+minimal+`,"timeout":60}`, "Idempotency-Key", "k", "Prefer", async)
	first := b.read(w, http.StatusAccepted)
	if first.Status.State != "Pending" || w.Header().Get(replayed) != "" {
		t.Errorf("first: %+v %v", first, w.Header())
	}
	w = b.do("POST", "/sandboxes", `{"timeout": 60, `+minimal+`}`, "Idempotency-Key", "k", "Prefer", async)
	if got := b.read(w, http.StatusAccepted); got.ID != first.ID || w.Header().Get(replayed) != "true" {
		t.Errorf("other order of names: %+v %v, want %s", got, w.Header(), first.ID)
	}
	b.run(first.ID, "n")
	w = b.do("POST", "/v1/sandboxes", `{`+minimal+`,"timeout":60}`, "Idempotency-Key", "k")
	if got := b.read(w, http.StatusAccepted); got.ID != first.ID || got.Status.State != "Running" || w.Header().Get(replayed) != "true" {
		t.Errorf("done: %+v %v", got, w.Header())
	}
	w = b.do("POST", "/v1/sandboxes", `{`+minimal+`,"timeout":61}`, "Idempotency-Key", "k")
	if got := b.read(w, http.StatusConflict); got.Code != "IDEMPOTENCY_KEY_REUSED" || w.Header().Get(replayed) != "" {
		t.Errorf("another body: %+v %v", got, w.Header())
	}
	if _, err := b.store.SetGone(t.Context(), first.ID, sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	w = b.do("POST", "/v1/sandboxes", `{`+minimal+`,"timeout":60}`, "Idempotency-Key", "k")
	if got := b.read(w, http.StatusConflict); got.Code != "IDEMPOTENCY_KEY_SPENT" || got.SandboxID != string(first.ID) {
		t.Errorf("deleted: %+v", got)
	}
	for _, bad := range []string{"", strings.Repeat("k", 256), "ключ"} {
		w = b.do("POST", "/v1/sandboxes", `{`+minimal+`}`, "Idempotency-Key", bad)
		if got := b.read(w, http.StatusBadRequest); !strings.Contains(got.Message, "1 to 255 printable ASCII") {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

func TestRepeatedErrorIsMarked(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	id := b.read(b.do("POST", "/v1/sandboxes", `{`+minimal+`}`, "Idempotency-Key", "k", "Prefer", "respond-async"), http.StatusAccepted).ID
	_, err := b.store.FailUnplaced(t.Context(), id, sandbox.Failure{Reason: sandbox.ReasonNoCapacity, Message: "no node has room", RetainFor: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	w := b.do("POST", "/v1/sandboxes", `{`+minimal+`}`, "Idempotency-Key", "k")
	got := b.read(w, http.StatusServiceUnavailable)
	if got.Code != "SANDBOX::NO_CAPACITY" || got.SandboxID != string(id) || w.Header().Get("Idempotent-Replayed") != "true" || w.Header().Get("Retry-After") != "5" {
		t.Errorf("%+v %v", got, w.Header())
	}
	// A platform that is full works.
	if log := b.log.String(); !strings.Contains(log, "level=INFO msg=\"request failed\"") || strings.Contains(log, "level=ERROR") {
		t.Errorf("the log says:\n%s", log)
	}
}

func TestPlatformIsEchoed(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	w := b.do("POST", "/v1/sandboxes", `{`+minimal+`,"platform":{"os":"LINUX","arch":"x86_64"}}`, "Prefer", "respond-async")
	made := b.read(w, http.StatusAccepted)
	got := b.read(b.do("GET", "/v1/sandboxes/"+string(made.ID), ""), http.StatusOK)
	for what, a := range map[string]answer{"create": made, "get": got} {
		if a.Platform == nil || a.Platform.OS != "linux" || a.Platform.Arch != "amd64" {
			t.Errorf("%s: platform %+v", what, a.Platform)
		}
	}
	if w := b.do("GET", "/v1/sandboxes/"+string(b.pending()), ""); strings.Contains(w.Body.String(), "platform") {
		t.Errorf("a platform that nobody asked for: %s", w.Body)
	}
}

func TestRuntimeThatIsNotAllowed(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *Config, _ *Deps) { c.AllowedRuntimes = []string{"runsc"} })
	const body = `{` + minimal + `,"extensions":{"node.runtime":"`
	b.read(b.do("POST", "/v1/sandboxes", body+`runsc"}}`, "Prefer", "respond-async"), http.StatusAccepted)
	got := b.read(b.do("POST", "/v1/sandboxes", body+`runc"}}`, "Prefer", "respond-async"), http.StatusForbidden)
	if !strings.Contains(got.Message, "docker.allowed_runtimes") {
		t.Errorf("%+v does not name the key", got)
	}
}

// routes are requests of every route that needs the store; {id} is a sandbox that runs.
var routes = []struct{ method, path, body string }{
	{"POST", "/v1/sandboxes", `{` + minimal + `}`},
	{"GET", "/v1/sandboxes", ""},
	{"GET", "/v1/sandboxes/{id}", ""},
	{"DELETE", "/v1/sandboxes/{id}", ""},
	{"POST", "/v1/sandboxes/{id}/pause", ""},
	{"POST", "/v1/sandboxes/{id}/resume", ""},
	{"POST", "/v1/sandboxes/{id}/renew-expiration", `{"expiresAt":"2999-01-01T00:00:00Z"}`},
	{"PATCH", "/v1/sandboxes/{id}/metadata", `{"a":"b"}`},
	{"GET", "/v1/sandboxes/{id}/endpoints/8080", ""},
}

func TestEveryRouteSaysThatTheStoreIsAway(t *testing.T) {
	for name, trouble := range map[string]int32{"refuses": refuses, "hangs": hangs} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil)
				id := b.pending()
				b.run(id, "n")
				for _, r := range routes {
					b.store.trouble.Store(trouble)
					began := time.Now()
					w := b.do(r.method, strings.ReplaceAll(r.path, "{id}", string(id)), r.body)
					got := b.read(w, http.StatusServiceUnavailable)
					if got.Code != "UNAVAILABLE" || got.Message == "" || w.Header().Get("Retry-After") != "1" || time.Since(began) > 2*time.Second {
						t.Errorf("%s %s: %+v %v after %v", r.method, r.path, got, w.Header(), time.Since(began))
					}
					b.store.trouble.Store(0)
				}
				// It comes back by itself, with nothing lost.
				if got := b.read(b.do("GET", "/v1/sandboxes/"+string(id), ""), http.StatusOK); got.Status.State != "Running" {
					t.Errorf("after it came back: %+v", got)
				}
			})
		})
	}
}

func TestWaitingCreateLosesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		time.AfterFunc(time.Second, func() { b.store.trouble.Store(hangs) })
		began := time.Now()
		w := b.do("POST", "/v1/sandboxes", `{`+minimal+`}`)
		got := b.read(w, http.StatusServiceUnavailable)
		if took := time.Since(began); took > 22*time.Second || w.Header().Get("Retry-After") == "" || !strings.Contains(got.Message, "may exist") {
			t.Errorf("%+v %v after %v", got, w.Header(), took)
		}
		b.store.trouble.Store(0)
		if seen := b.read(b.do("GET", "/v1/sandboxes/"+got.SandboxID, ""), http.StatusOK); seen.Status.State != "Pending" {
			t.Errorf("what became of it: %+v", seen)
		}
	})
}

func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		if err := b.ready.Ready(readyAge, readyLimit); err != nil {
			t.Errorf("at the start: %v", err)
		}
		asked := b.store.all.Load()
		if err := b.ready.Ready(readyAge, readyLimit); err != nil || b.store.all.Load() != asked {
			t.Errorf("after an answer: %v, %d questions", err, b.store.all.Load()-asked)
		}
		b.store.trouble.Store(hangs)
		time.Sleep(readyAge + time.Millisecond)
		began := time.Now()
		if err := b.ready.Ready(readyAge, readyLimit); err == nil || time.Since(began) != readyLimit {
			t.Errorf("while it hangs: %v after %v", err, time.Since(began))
		}
		b.store.trouble.Store(refuses)
		if err := b.ready.Ready(readyAge, readyLimit); err == nil {
			t.Error("ready while the store refuses")
		}
		b.store.trouble.Store(0)
		if err := b.ready.Ready(readyAge, readyLimit); err != nil {
			t.Errorf("after it came back: %v", err)
		}
	})
}

func TestTooManyRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *Config, _ *Deps) { c.MaxConcurrency = 1 })
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			b.do("POST", "/v1/sandboxes", `{`+minimal+`}`) // waits for a node that does not act
		}()
		synctest.Wait()
		w := b.do("GET", "/v1/sandboxes", "")
		if got := b.read(w, http.StatusServiceUnavailable); w.Header().Get("Retry-After") != "1" || !strings.Contains(got.Message, "server.limit_concurrency") {
			t.Errorf("%+v %v", got, w.Header())
		}
		<-ended
	})
}

func TestOneTraceFromTheRequestOn(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	var logged syncBuffer
	log, err := telemetry.Logger(&logged, "DEBUG", "text", telemetry.Origin{Request: httpx.RequestID})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(_ *Config, d *Deps) {
		d.Tracers, d.Log = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), log
	})
	const trace = "0af7651916cd43dd8448eb211c80319c"
	w := b.do("POST", "/v1/sandboxes", `{`+minimal+`}`, "Prefer", "respond-async", "X-Request-ID", "request-1", "traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	r, err := b.store.Get(t.Context(), b.read(w, http.StatusAccepted).ID)
	if err != nil {
		t.Fatal(err)
	}
	ended := spans.Ended()
	if len(ended) != 1 || ended[0].Name() != "POST /v1/sandboxes" || ended[0].SpanContext().TraceID().String() != trace {
		t.Fatalf("spans %v", ended)
	}
	if want := "00-" + trace + "-" + ended[0].SpanContext().SpanID().String() + "-01"; r.Intent.Trace != want || r.Intent.Request != "request-1" {
		t.Errorf("the record carries %q, want %q", r.Intent.Origin, want)
	}
	if l := logged.String(); !strings.Contains(l, "request=request-1") || !strings.Contains(l, "trace_id="+trace) {
		t.Errorf("log: %s", l)
	}
}

// TestDrain has a listener: waiting creates are answered Pending when the api ends.
func TestDrain(t *testing.T) {
	t.Parallel()
	st := memstore.New()
	api, err := New(t.Context(), Config{Address: "127.0.0.1:0", CreateWait: 20 * time.Second, Grace: 10 * time.Second}, Deps{
		Store: st, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler), Token: func(sandbox.ID, uint64) string { return "" },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := api.Ready(); err != nil {
		t.Errorf("before the end: %v", err)
	}
	placement, cancelHint := st.Subscribe(sandbox.TopicPlacement)
	defer cancelHint()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended, answered := make(chan error, 1), make(chan string, 1)
	go func() { ended <- api.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		w, err := client.Post("http://"+api.Addr().String()+"/v1/sandboxes", "application/json", strings.NewReader(`{`+minimal+`}`))
		if err != nil {
			answered <- err.Error()
			return
		}
		defer w.Body.Close()
		body, _ := io.ReadAll(w.Body)
		answered <- w.Status + " " + string(body)
	}()
	<-placement
	cancel()
	if a := <-answered; !strings.HasPrefix(a, "202") || !strings.Contains(a, `"Pending"`) {
		t.Errorf("a waiting create got %s", a)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
	if api.Ready() == nil {
		t.Error("ready after the end")
	}
}
