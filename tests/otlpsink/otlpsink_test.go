package otlpsink_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"opensandbox/tests/otlpsink"
)

// export is what a process sends.
func export(t *testing.T, service string, spans ...*tracepb.Span) []byte {
	t.Helper()
	name := &commonpb.KeyValue{Key: "service.name", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: service}}}
	b, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{name}}, ScopeSpans: []*tracepb.ScopeSpans{{Spans: spans}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSpansAreKeptAndGivenOut(t *testing.T) {
	t.Parallel()
	h := new(otlpsink.Sink).Handler()
	do := func(method, path string, body []byte) (int, []byte) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewReader(body)))
		return w.Code, w.Body.Bytes()
	}
	for service, span := range map[string]*tracepb.Span{
		"a": {TraceId: []byte{1}, SpanId: []byte{2}, Name: "first"},
		"b": {TraceId: []byte{1}, SpanId: []byte{3}, ParentSpanId: []byte{2}, Name: "second", Links: []*tracepb.Span_Link{{SpanId: []byte{9}}}},
		"c": {TraceId: []byte{5}, SpanId: []byte{6}, Name: "other"},
	} {
		if code, body := do("POST", "/v1/traces", export(t, service, span)); code != http.StatusOK {
			t.Fatalf("export: %d %s", code, body)
		}
	}
	if code, _ := do("POST", "/v1/traces", []byte("no protobuf")); code != http.StatusBadRequest {
		t.Errorf("nonsense is answered with %d", code)
	}
	var spans []otlpsink.Span
	if _, body := do("GET", "/spans?trace=01", nil); json.Unmarshal(body, &spans) != nil {
		t.Fatalf("spans: %s", body)
	}
	got := map[string]otlpsink.Span{}
	for _, s := range spans {
		got[s.Name] = s
	}
	want := map[string]otlpsink.Span{
		"first":  {Trace: "01", Span: "02", Name: "first", Service: "a"},
		"second": {Trace: "01", Span: "03", Parent: "02", Links: []string{"09"}, Name: "second", Service: "b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var traces map[string][]string
	if _, body := do("GET", "/traces", nil); json.Unmarshal(body, &traces) != nil || len(traces["01"]) != 2 || len(traces["05"]) != 1 {
		t.Errorf("traces: %v", traces)
	}
	if _, body := do("GET", "/spans?trace=none", nil); string(body) != "[]\n" {
		t.Errorf("spans of no trace: %q", body)
	}
}

func TestOldSpansMakeRoom(t *testing.T) {
	t.Parallel()
	sink := new(otlpsink.Sink)
	var spans []*tracepb.Span
	for i := range otlpsink.MaxSpans + 5 {
		spans = append(spans, &tracepb.Span{TraceId: []byte{1}, Name: fmt.Sprint(i)})
	}
	w := httptest.NewRecorder()
	sink.Handler().ServeHTTP(w, httptest.NewRequest("POST", "/v1/traces", bytes.NewReader(export(t, "a", spans...))))
	kept := sink.Spans("")
	if len(kept) != otlpsink.MaxSpans || kept[0].Name != "5" {
		t.Errorf("%d spans are kept, from %v on", len(kept), kept[0])
	}
}
