package otlp

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"opensandbox/libs/secrettest"
	"opensandbox/services/execd/internal/environ"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFromEnv(t *testing.T) {
	t.Parallel()
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318/"
	for _, env := range [][]string{
		nil, {"OTEL_EXPORTER_OTLP_ENDPOINT= "}, {endpoint, "OTEL_SDK_DISABLED=True"}, {endpoint, "OTEL_METRICS_EXPORTER=none"}, {"HOST_IP=1.2.3.4"},
	} {
		if c, err := FromEnv(environ.In(env), "1"); c != nil || err != nil {
			t.Errorf("%q: got %+v, %v, want nothing", env, c, err)
		}
	}
	c, err := FromEnv(environ.In([]string{
		endpoint, "OTEL_METRIC_EXPORT_INTERVAL=5000", "OTEL_EXPORTER_OTLP_HEADERS=a=b%20c, d=e", "OPENSANDBOX_ID=sb1", "OPENSANDBOX_EXECD_METRICS_EXTRA_ATTRS=k=v,k=w",
	}), "1.2")
	want := &Config{
		Endpoint: "http://c:4318/v1/metrics", Headers: []Attribute{{"a", "b c"}, {"d", "e"}}, Interval: 5 * time.Second,
		Resource: []Attribute{{"service.name", "opensandbox-execd-1.2"}, {"sandbox_id", "sb1"}}, Common: []Attribute{{"sandbox_id", "sb1"}, {"k", "w"}},
	}
	if d := cmp.Diff(want, c); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	c, err = FromEnv(environ.In([]string{endpoint, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=https://m/x"}), "")
	if err != nil || c.Endpoint != "https://m/x" || c.Interval != time.Minute {
		t.Errorf("got %+v, %v", c, err)
	}
	secret := secrettest.New("a header for a collector")
	for _, bad := range [][]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT=c:4318"}, {"OTEL_EXPORTER_OTLP_ENDPOINT=grpc://u:" + secret + "@c"}, {endpoint, "OTEL_METRIC_EXPORT_INTERVAL=1"},
		{endpoint, "OTEL_METRIC_EXPORT_INTERVAL=1s"}, {endpoint, "OTEL_EXPORTER_OTLP_HEADERS=" + secret}, {endpoint, "OPENSANDBOX_EXECD_METRICS_EXTRA_ATTRS==x"},
		{endpoint, "OTEL_EXPORTER_OTLP_HEADERS=a=%0a" + secret},
	} {
		c, err := FromEnv(environ.In(bad), "")
		if err == nil {
			t.Errorf("%q: got %+v, want an error", bad, c)
			continue
		}
		secrettest.Absent(t, "the error", err.Error())
	}
}

// TestPush: what a collector receives, word for word but for the times.
func TestPush(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 100)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies <- r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + r.Header.Get("a") + "\n" + string(b)
	}))
	defer collector.Close()
	cfg := Config{
		Endpoint: collector.URL + "/v1/metrics", Headers: []Attribute{{"a", "b"}}, Interval: time.Hour,
		Resource: []Attribute{{"service.name", "me"}}, Common: []Attribute{{"sandbox_id", "sb1"}},
	}
	read := func(context.Context) []Reading {
		return []Reading{{Name: "z.gauge", Unit: "%", Value: 12.5}, {Name: "a.bytes", Unit: "By", Attributes: []Attribute{{"direction", "in"}}, Value: 7, Counter: true}}
	}
	e := New(cfg, read, slog.New(slog.DiscardHandler))
	for _, ms := range []time.Duration{0, 5, 6, 20_000} {
		e.Duration("m.duration", ms*time.Millisecond, Attribute{"result", "success"})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.Run(ctx) // The push at the end.
	head, body, _ := strings.Cut(<-bodies, "\n")
	if head != "POST /v1/metrics application/json b" {
		t.Errorf("got %s", head)
	}
	var got any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	forgetTimes(got)
	var want any
	if err := json.Unmarshal([]byte(`{"resourceMetrics":[{
		"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"me"}}]},
		"scopeMetrics":[{"scope":{"name":"opensandbox/execd"},"metrics":[
			{"name":"a.bytes","unit":"By","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
				{"attributes":[{"key":"direction","value":{"stringValue":"in"}},{"key":"sandbox_id","value":{"stringValue":"sb1"}}],
				 "startTimeUnixNano":"t","timeUnixNano":"t","asDouble":7}]}},
			{"name":"m.duration","unit":"ms","histogram":{"aggregationTemporality":2,"dataPoints":[
				{"attributes":[{"key":"result","value":{"stringValue":"success"}},{"key":"sandbox_id","value":{"stringValue":"sb1"}}],
				 "startTimeUnixNano":"t","timeUnixNano":"t","count":"4","sum":20011,
				 "bucketCounts":["1","1","1","0","0","0","0","0","0","0","0","0","0","0","0","1"],
				 "explicitBounds":[0,5,10,25,50,75,100,250,500,750,1000,2500,5000,7500,10000]}]}},
			{"name":"z.gauge","unit":"%","gauge":{"dataPoints":[
				{"attributes":[{"key":"sandbox_id","value":{"stringValue":"sb1"}}],"timeUnixNano":"t","asDouble":12.5}]}}
		]}]}]}`), &want); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func forgetTimes(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if strings.HasSuffix(k, "UnixNano") {
				v[k] = "t"
			}
			forgetTimes(x)
		}
	case []any:
		for _, x := range v {
			forgetTimes(x)
		}
	}
}

// TestCollectorAway: one line in the log, however often it fails, and again after it was well.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	calls := make(chan struct{})
	ill := make(chan int, 100)
	for _, status := range []int{500, 503, 200, 429, 500, 200} {
		ill <- status
	}
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case status := <-ill:
			w.WriteHeader(status)
			calls <- struct{}{}
		default:
		}
	}))
	defer collector.Close()
	var log bytes.Buffer
	cfg := Config{Endpoint: collector.URL, Interval: time.Millisecond}
	e := New(cfg, func(context.Context) []Reading { return nil }, slog.New(slog.NewTextHandler(&log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Run(ctx)
	}()
	for range 6 {
		<-calls
	}
	cancel()
	<-done
	if got := log.String(); strings.Count(got, "metrics not pushed") != 2 || !strings.Contains(got, "500 Internal") || !strings.Contains(got, "429") {
		t.Errorf("log:\n%s", got)
	}
}

func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	e := New(Config{}, nil, slog.New(slog.DiscardHandler))
	for i := range 2 * maxSeries {
		e.Duration("x", 0, Attribute{"k", strings.Repeat("a", i)})
	}
	if len(e.series) != maxSeries {
		t.Errorf("%d series, want %d", len(e.series), maxSeries)
	}
}
