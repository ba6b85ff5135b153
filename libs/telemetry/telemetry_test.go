package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"

	"opensandbox/libs/secrettest"
	"opensandbox/libs/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	other  = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
)

func environment(pairs ...string) func(string) (string, bool) {
	return func(key string) (string, bool) {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == key {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func TestLogLinesNameTheirOrigin(t *testing.T) {
	t.Parallel()
	type id struct{}
	request := func(ctx context.Context) string { s, _ := ctx.Value(id{}).(string); return s }
	type work struct{}
	workOf := func(ctx context.Context) string { s, _ := ctx.Value(work{}).(string); return s }
	inRequest := context.WithValue(t.Context(), id{}, "r-1")
	for name, c := range map[string]struct {
		ctx  context.Context
		want map[string]any
	}{
		"nothing":             {t.Context(), map[string]any{}},
		"request":             {inRequest, map[string]any{"request": "r-1"}},
		"trace":               {telemetry.Extract(t.Context(), parent), map[string]any{"trace_id": parent[3:35], "span_id": parent[36:52]}},
		"request and trace":   {telemetry.Extract(inRequest, parent), map[string]any{"request": "r-1", "trace_id": parent[3:35], "span_id": parent[36:52]}},
		"work without a span": {context.WithValue(inRequest, work{}, parent), map[string]any{"request": "r-1", "trace_id": parent[3:35]}},
		"work within a span":  {telemetry.Extract(context.WithValue(t.Context(), work{}, other), parent), map[string]any{"trace_id": parent[3:35], "span_id": parent[36:52]}},
		"work of no trace":    {context.WithValue(t.Context(), work{}, "nonsense"), map[string]any{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			log, err := telemetry.Logger(&out, "info", "json", telemetry.Origin{Request: request, Trace: workOf})
			if err != nil {
				t.Fatal(err)
			}
			log.With("a", 1).DebugContext(c.ctx, "too quiet")
			log.With("a", 1).InfoContext(c.ctx, "hello")
			var line map[string]any
			if err := json.Unmarshal(out.Bytes(), &line); err != nil {
				t.Fatalf("%q: %v", out.String(), err)
			}
			for _, key := range []string{"request", "trace_id", "span_id"} {
				if line[key] != c.want[key] {
					t.Errorf("%s = %v, want %v", key, line[key], c.want[key])
				}
			}
		})
	}
}

func TestNewRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	const general, traces = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	for name, c := range map[string]struct {
		level, format string
		env           []string
		want          string // part of the error; empty: none
	}{
		"defaults":            {"INFO", "text", nil, ""},
		"level":               {"LOUD", "text", nil, "log level"},
		"format":              {"INFO", "xml", nil, "log format"},
		"exporter":            {"INFO", "json", []string{"OTEL_TRACES_EXPORTER", "zipkin"}, "OTEL_TRACES_EXPORTER"},
		"protocol":            {"INFO", "json", []string{general, "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"},
		"protocol, unused":    {"INFO", "json", []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, ""},
		"endpoint":            {"INFO", "json", []string{traces, "ftp://user:" + secrettest.New("the password of a collector") + "@c"}, traces},
		"endpoint, switched":  {"INFO", "json", []string{traces, "ftp://c", "OTEL_SDK_DISABLED", "true"}, ""},
		"endpoint, no export": {"INFO", "json", []string{traces, "ftp://c", "OTEL_TRACES_EXPORTER", "none"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tel, err := telemetry.New(t.Context(), telemetry.Config{Service: "s", LogTo: io.Discard, Level: c.level, Format: c.format, Lookup: environment(c.env...)})
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("New = %v, want an error about %q", err, c.want)
			}
			if err != nil {
				secrettest.Absent(t, "the error", err.Error())
				return
			}
			if _, ok := tel.Tracers.(noop.TracerProvider); !ok {
				t.Errorf("tracers are %T without an endpoint", tel.Tracers)
			}
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown = %v", err)
			}
		})
	}
}

func TestSpansReachTheCollector(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var paths []string
	var bodies bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		paths = append(paths, r.URL.Path)
		_, _ = bodies.ReadFrom(r.Body)
	}))
	defer collector.Close()
	for _, env := range [][]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL + "/base/"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.URL + "/whole", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"},
	} {
		tracers, shutdown, err := telemetry.Tracers(t.Context(), "the-service", "1.2.3", environment(env...), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		_, span := tracers.Tracer("t").Start(t.Context(), "the-span")
		span.End()
		ended, cancel := context.WithCancel(t.Context())
		cancel() // a process that ends has no context left
		if err := shutdown(ended); err != nil {
			t.Fatalf("shutdown = %v", err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(paths, " "); got != "/base/v1/traces /whole" {
		t.Errorf("spans went to %q", got)
	}
	for _, want := range []string{"the-span", "the-service", "1.2.3"} {
		if !bytes.Contains(bodies.Bytes(), []byte(want)) {
			t.Errorf("%q was not sent", want)
		}
	}
}

func TestACollectorThatIsAwayIsLoggedOnce(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer gone.Close()
	var log bytes.Buffer
	tracers, shutdown, err := telemetry.Tracers(t.Context(), "s", "v", environment("OTEL_EXPORTER_OTLP_ENDPOINT", gone.URL), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, span := tracers.Tracer("t").Start(t.Context(), "x")
		span.End()
		if err := tracers.(*sdktrace.TracerProvider).ForceFlush(t.Context()); err != nil {
			t.Errorf("flush = %v", err)
		}
	}
	if err := shutdown(t.Context()); err != nil {
		t.Errorf("shutdown = %v", err)
	}
	if n := strings.Count(log.String(), "cannot send traces"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, &log)
	}
}

func TestTraceContextTravels(t *testing.T) {
	t.Parallel()
	if got := telemetry.Inject(t.Context()); got != "" {
		t.Errorf("Inject without a trace = %q", got)
	}
	for _, c := range []struct{ in, want string }{
		{parent, parent},
		{strings.TrimSuffix(parent, "1") + "0", strings.TrimSuffix(parent, "1") + "0"},
		{"", ""},
		{"nonsense", ""},
		{"00-00000000000000000000000000000000-b7ad6b7169203331-01", ""},
		{parent + "-more", ""},
	} {
		if got := telemetry.Inject(telemetry.Extract(t.Context(), c.in)); got != c.want {
			t.Errorf("%q came back as %q, want %q", c.in, got, c.want)
		}
	}
}

func TestWorkContinuesTheTraceOfItsRecord(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	work := telemetry.Work(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	ctx, end := work(t.Context(), parent, "agent create")
	if got := trace.SpanContextFromContext(ctx).TraceID().String(); got != parent[3:35] {
		t.Errorf("the work belongs to trace %s", got)
	}
	end(errors.New("it broke"))
	_, end = work(t.Context(), "", "agent poll")
	end(nil)
	all := spans.Ended()
	if len(all) != 1 || all[0].Name() != "agent create" || all[0].Parent().SpanID().String() != parent[36:52] || all[0].Status().Description != "it broke" {
		t.Errorf("spans: %+v", all)
	}
	ctx, end = telemetry.Work(nil)(t.Context(), parent, "x")
	end(nil)
	if telemetry.Inject(ctx) != parent {
		t.Error("without tracers the trace is not passed on")
	}
}

func FuzzExtract(f *testing.F) {
	f.Add(parent)
	f.Add("ff-0-0-0")
	f.Fuzz(func(t *testing.T, s string) {
		got := telemetry.Inject(telemetry.Extract(context.Background(), s))
		if got != "" && (len(got) != 55 || telemetry.Inject(telemetry.Extract(context.Background(), got)) != got) {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	var fails error
	reg := telemetry.Registry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "opensandbox_test", Help: "x"}, func() float64 { return 7 }))
	h := telemetry.Admin(reg, func() error { return fails })
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if code, _ := get("/ready"); code != 200 {
		t.Errorf("/ready = %d", code)
	}
	fails = errors.New("the engine is away")
	if code, body := get("/ready"); code != 503 || !strings.Contains(body, "the engine is away") {
		t.Errorf("/ready = %d %s", code, body)
	}
	if code, _ := get("/health"); code != 200 {
		t.Errorf("/health = %d although the process runs", code)
	}
	code, body := get("/metrics")
	for _, want := range []string{"opensandbox_test 7", "go_goroutines", "process_open_fds"} {
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("/metrics = %d without %s", code, want)
		}
	}
	if code, _ := get("/other"); code != 404 {
		t.Errorf("/other = %d", code)
	}
}

func TestNoEnvironmentIsNeeded(t *testing.T) {
	t.Parallel()
	tel, err := telemetry.New(t.Context(), telemetry.Config{Service: "s", LogTo: io.Discard, Level: "info", Format: "text",
		Lookup: func(key string) (string, bool) {
			if strings.HasPrefix(key, "OTEL_") {
				return "", false
			}
			return os.LookupEnv(key)
		}})
	if err != nil || tel.Log == nil || tel.Registry == nil {
		t.Fatalf("New = %+v, %v", tel, err)
	}
}
