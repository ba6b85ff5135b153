package kitx_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"opensandbox/libs/fault"
	"opensandbox/libs/kitx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func observed(t *testing.T, options ...kitx.Option) (*kitx.Kit, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	k, err := kitx.New(slog.New(slog.DiscardHandler), reg, options...)
	if err != nil {
		t.Fatal(err)
	}
	name := func(_ context.Context, r *http.Request) (string, error) { return r.PathValue("name"), nil }
	kitx.Route(k, "GET /things/{name}", kitx.Op("GetThing", 200), name, func(ctx context.Context, n string) (greeting, error) {
		switch n {
		case "none":
			return greeting{}, fault.New(fault.NotFound, "no such thing")
		case "panic":
			panic("x")
		case "abort":
			panic(http.ErrAbortHandler)
		}
		return greeting{trace.SpanContextFromContext(ctx).TraceID().String()}, nil
	})
	return k, reg
}

// series returns the label values of each series with its count, sorted.
func series(t *testing.T, reg *prometheus.Registry) []string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			line := f.GetName()
			for _, l := range m.GetLabel() {
				line += " " + l.GetValue()
			}
			out = append(out, line+" "+strings.Repeat("+", int(m.GetHistogram().GetSampleCount())))
		}
	}
	slices.Sort(out)
	return out
}

func TestRequestsAreCountedByClosedSets(t *testing.T) {
	t.Parallel()
	k, reg := observed(t)
	for _, r := range []struct{ method, path string }{
		{"GET", "/things/a"}, {"GET", "/things/b"}, {"GET", "/things/none"}, {"GET", "/things/panic"}, {"POST", "/things/a"}, {"BREW", "/things/a"}, {"GET", "/no/such/1"}, {"GET", "/no//such/2"},
	} {
		do(k, r.method, r.path, "")
	}
	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // the very value
				t.Errorf("recovered %v; net/http must see the abort", p)
			}
		}()
		do(k, "GET", "/things/abort", "")
	}()
	const metric = "opensandbox_http_request_duration_seconds "
	want := []string{ // labels in the order method, route, status
		metric + "GET /things/{name} 200 ++",
		metric + "GET /things/{name} 404 +",
		metric + "GET /things/{name} 500 +",
		metric + "GET /things/{name} none +",
		metric + "GET unmatched 404 ++",
		metric + "POST unmatched 405 +",
		metric + "other unmatched 405 +",
	}
	if diff := cmp.Diff(want, series(t, reg)); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func TestOperationsAreSpans(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	k, _ := observed(t, kitx.Traced(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))))
	const id = "0af7651916cd43dd8448eb211c80319c"
	if w := do(k, "GET", "/things/a", "", "traceparent", "00-"+id+"-b7ad6b7169203331-01"); !strings.Contains(w.Body.String(), id) {
		t.Errorf("the operation saw %s", w.Body)
	}
	do(k, "GET", "/things/none", "")
	do(k, "GET", "/things/panic", "")
	do(k, "GET", "/no/such", "")
	ended := spans.Ended()
	if len(ended) != 3 {
		t.Fatalf("%d spans, want one for each operation", len(ended))
	}
	for i, want := range []codes.Code{codes.Unset, codes.Unset, codes.Error} {
		if s := ended[i]; s.Name() != "GET /things/{name}" || s.Status().Code != want || s.SpanKind() != trace.SpanKindServer {
			t.Errorf("span %d: %s %v", i, s.Name(), s.Status())
		}
	}
	if got := ended[0].Parent().TraceID().String(); got != id {
		t.Errorf("parent trace %s", got)
	}
}

func BenchmarkRouteUntraced(b *testing.B) {
	k, err := kitx.New(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	kitx.Route(k, "GET /x", kitx.Op("X", 204), func(context.Context, *http.Request) (kitx.None, error) { return kitx.None{}, nil },
		func(context.Context, kitx.None) (kitx.None, error) { return kitx.None{}, nil })
	r := httptest.NewRequest(http.MethodGet, "/x", nil)
	b.ReportAllocs()
	for b.Loop() {
		k.ServeHTTP(httptest.NewRecorder(), r)
	}
}
