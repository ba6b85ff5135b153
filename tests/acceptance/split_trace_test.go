//go:build e2e

package acceptance

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"opensandbox/tests/otlpsink"
)

// traced makes every process of a platform that has not been started yet send its spans to a collector, soon after each has ended.
func (s *server) traced() *otlpsink.Sink {
	s.t.Helper()
	sink := new(otlpsink.Sink)
	collector := httptest.NewServer(sink.Handler())
	s.t.Cleanup(collector.Close)
	for _, p := range s.programs {
		p.env = append(p.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_BSP_SCHEDULE_DELAY=100")
	}
	return sink
}

// part is a span that a trace must have: its process, its name, and the name of the span above, or "client" for the caller's own.
type part struct{ service, name, above string }

func (p part) String() string { return fmt.Sprintf("%s of %s below %s", p.name, p.service, p.above) }

// partsOf returns the spans of a trace whose caller names itself by the id of a span. What is below a span that has not come is below its id.
func partsOf(spans []otlpsink.Span, caller string) []part {
	names := map[string]string{caller: "client"}
	for _, span := range spans {
		names[span.Span] = span.Name
	}
	var out []part
	for _, span := range spans {
		above := span.Parent
		if name, known := names[above]; known {
			above = name
		}
		out = append(out, part{span.Service, span.Name, above})
	}
	return out
}

// TestSplitOneTraceOfASandbox: what is done for a request belongs to the trace of its client, in every process that has a part in it, down to
// the calls of the store and of the engine.
func TestSplitOneTraceOfASandbox(t *testing.T) {
	s := newSplit(t, "")
	sink := s.traced()
	s.run()
	s.cleanUp()
	ask := func(method, path string, body any, status int) (answer, string, string) {
		t.Helper()
		trace, caller := fmt.Sprintf("%016x%016x", rand.Uint64()|1, rand.Uint64()), fmt.Sprintf("%016x", rand.Uint64()|1)
		a := s.do(method, path, body, "traceparent", "00-"+trace+"-"+caller+"-01")
		if a.status != status {
			t.Fatalf("%s %s: %v", method, path, a)
		}
		return a, trace, caller
	}
	wants := func(trace, caller string, want ...part) {
		t.Helper()
		var missing []string
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); waitABit() {
			got := partsOf(sink.Spans(trace), caller)
			missing = nil
			for _, w := range want {
				if !slices.Contains(got, w) {
					missing = append(missing, w.String())
				}
			}
			if len(missing) == 0 {
				return
			}
		}
		t.Errorf("the trace lacks\n%s\nit has\n%v", strings.Join(missing, "\n"), partsOf(sink.Spans(trace), caller))
	}
	const (
		api, scheduler, agent = "opensandbox-api", "opensandbox-scheduler", "opensandbox-agent"
		create, pause         = "POST /v1/sandboxes", "POST /v1/sandboxes/{id}/pause"
		remove                = "DELETE /v1/sandboxes/{id}"
	)
	s.create(nil) // the nodes are there from now on: what has to wait for one is placed in an attempt that has no span of its own
	a, trace, caller := ask("POST", "/v1/sandboxes", spec(nil), http.StatusAccepted)
	wants(trace, caller,
		part{api, create, "client"}, part{api, "store insert", create}, part{api, "store accept", create},
		part{scheduler, "scheduler place", create}, part{scheduler, "store place", "scheduler place"},
		part{agent, "agent make", create}, part{agent, "engine create", "agent make"}, part{agent, "engine start", "agent make"},
		part{agent, "agent ready", create}, part{agent, "agent report", create}, part{agent, "store report", "agent report"})
	path := "/v1/sandboxes/" + a.json(t)["id"].(string)
	_, trace, caller = ask("POST", path+"/pause", nil, http.StatusAccepted)
	wants(trace, caller,
		part{api, pause, "client"}, part{api, "store set_desired", pause},
		part{agent, "agent pause", pause}, part{agent, "engine pause", "agent pause"}, part{agent, "store report", "agent report"})
	_, trace, caller = ask("DELETE", path, nil, http.StatusNoContent)
	wants(trace, caller,
		part{api, remove, "client"}, part{api, "store set_gone", remove},
		part{agent, "agent remove", remove}, part{agent, "engine kill", "agent remove"}, part{agent, "engine remove", "agent remove"},
		part{agent, "store cleaned", "agent remove"})
}

// TestSplitLogsNameTheRequest: what processes log about a sandbox names the request that the work is for, and its trace.
func TestSplitLogsNameTheRequest(t *testing.T) {
	for format, word := range map[string]string{"text": "%s=%s", "json": `"%s":"%s"`} {
		t.Run(format, func(t *testing.T) {
			s := newSplit(t, "")
			for _, p := range s.programs {
				p.env = append(p.env, "OPENSANDBOX_LOG_FORMAT="+format, "OPENSANDBOX_LOG_LEVEL=DEBUG")
			}
			s.run()
			s.cleanUp()
			// lines are those of the processes of one service that name a sandbox, or, without one, a request.
			lines := func(service, key, value string) (out []string) {
				for _, p := range s.programs {
					if text, err := os.ReadFile(p.log(s.dir)); strings.HasPrefix(p.name, service) && err == nil {
						for line := range strings.Lines(string(text)) {
							if strings.Contains(line, fmt.Sprintf(word, key, value)) {
								out = append(out, line)
							}
						}
					}
				}
				return out
			}
			request, trace := fmt.Sprintf("request-%x", rand.Uint64()), fmt.Sprintf("%016x%016x", rand.Uint64()|1, rand.Uint64())
			a := s.do("POST", "/v1/sandboxes", spec(nil), "X-Request-ID", request, "traceparent", "00-"+trace+"-b7ad6b7169203331-01")
			if a.status != http.StatusAccepted || a.header.Get("X-Request-ID") != request {
				t.Fatalf("create: %v", a)
			}
			id := a.json(t)["id"].(string)
			for service, said := range map[string]string{"scheduler": "sandbox placed", "agent": "sandbox reported"} {
				s.eventually(service+" names the sandbox", func() bool {
					return slices.ContainsFunc(lines(service, "sandbox", id), func(line string) bool { return strings.Contains(line, said) })
				})
				for _, line := range lines(service, "sandbox", id) {
					for key, value := range map[string]string{"request": request, "trace_id": trace} {
						if !strings.Contains(line, fmt.Sprintf(word, key, value)) {
							t.Errorf("the %s does not name %s %s:\n%s", service, key, value, line)
						}
					}
				}
			}
			s.eventually("the api names the request", func() bool { return len(lines("api", "request", request)) > 0 })
			for _, line := range lines("api", "request", request) {
				if !strings.Contains(line, fmt.Sprintf(word, "trace_id", trace)) {
					t.Errorf("the api does not name the trace:\n%s", line)
				}
			}
		})
	}
}
