// Command otlp-sink stands for an OpenTelemetry collector in tests: it takes spans by OTLP over HTTP, and tells which services took part
// in each trace.
package main

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"slices"
	"sync"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	// address is the standard port of OTLP over HTTP.
	address = ":4318"
	// maxBody bounds one export.
	maxBody = 16 << 20
)

func main() {
	server := &http.Server{Addr: address, Handler: (&sink{services: map[string][]string{}}).routes(), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// sink keeps the names of the services of each trace, by its id in hexadecimal.
type sink struct {
	mu       sync.Mutex
	services map[string][]string
}

func (s *sink) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", s.take)
	mux.HandleFunc("GET /traces", s.tell)
	return mux
}

// take reads an ExportTraceServiceRequest, which has the form of TracesData (OTLP 1.0).
func (s *sink) take(w http.ResponseWriter, r *http.Request) {
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
				id := hex.EncodeToString(span.GetTraceId())
				if !slices.Contains(s.services[id], service) {
					s.services[id] = append(s.services[id], service)
				}
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func serviceName(attributes []*commonpb.KeyValue) string {
	for _, a := range attributes {
		if a.GetKey() == "service.name" {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

func (s *sink) tell(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.services) // the client may have gone
}
