// Package otlpsink stands for an OpenTelemetry collector in tests: it takes spans by OTLP over HTTP, keeps the last of them, and gives them out.
package otlpsink

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	// maxBody bounds one export, in bytes.
	maxBody = 16 << 20
	// MaxSpans is how many spans are kept; the oldest make room for new ones.
	MaxSpans = 20_000
)

// Span is what is kept of a span. Ids are in hexadecimal.
type Span struct {
	Trace string `json:"trace"`
	Span  string `json:"span"`
	// Parent is the id of the span above; empty for the first one of a trace.
	Parent string `json:"parent,omitempty"`
	// Links are the ids of other spans that this one names.
	Links []string `json:"links,omitempty"`
	Name  string   `json:"name"`
	// Service is the process that made the span, by its attribute service.name.
	Service string `json:"service"`
}

// Sink is the collector. The zero value is ready to be used. Safe for concurrent use.
//
//	POST /v1/traces   takes an export
//	GET /spans        all spans that are kept, oldest first; ?trace=ID only those of one trace
//	GET /traces       the names of the services that took part in each trace that is kept, by its id
type Sink struct {
	mu    sync.Mutex
	spans []Span
}

// Handler serves the sink.
func (s *Sink) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", s.take)
	mux.HandleFunc("GET /spans", func(w http.ResponseWriter, r *http.Request) { answer(w, s.Spans(r.FormValue("trace"))) })
	mux.HandleFunc("GET /traces", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.services()) })
	return mux
}

// Spans returns the spans of a trace, or all that are kept if it is empty, in the order in which they came.
func (s *Sink) Spans(trace string) []Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Span{}
	for _, span := range s.spans {
		if trace == "" || span.Trace == trace {
			out = append(out, span)
		}
	}
	return out
}

func (s *Sink) services() map[string][]string {
	out := map[string][]string{}
	for _, span := range s.Spans("") {
		if !slices.Contains(out[span.Trace], span.Service) {
			out[span.Trace] = append(out[span.Trace], span.Service)
		}
	}
	return out
}

// take reads an ExportTraceServiceRequest, which has the form of TracesData (OTLP 1.0).
func (s *Sink) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var data tracepb.TracesData
	if err == nil {
		err = proto.Unmarshal(body, &data)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range data.GetResourceSpans() {
		service := serviceName(resource.GetResource().GetAttributes())
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				s.spans = append(s.spans, kept(span, service))
			}
		}
	}
	if more := len(s.spans) - MaxSpans; more > 0 {
		s.spans = slices.Delete(s.spans, 0, more)
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func kept(span *tracepb.Span, service string) Span {
	out := Span{
		Trace: hex.EncodeToString(span.GetTraceId()), Span: hex.EncodeToString(span.GetSpanId()), Parent: hex.EncodeToString(span.GetParentSpanId()),
		Name: span.GetName(), Service: service,
	}
	for _, l := range span.GetLinks() {
		out.Links = append(out.Links, hex.EncodeToString(l.GetSpanId()))
	}
	return out
}

func serviceName(attributes []*commonpb.KeyValue) string {
	for _, a := range attributes {
		if a.GetKey() == "service.name" {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may have gone
}
