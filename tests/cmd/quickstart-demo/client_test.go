package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"opensandbox/libs/secrettest"
)

// apiKey and token are what the platform wants to be shown.
var apiKey, token = secrettest.New("the API key"), secrettest.New("the token of the daemon")

// platform answers like a server with one sandbox, which is Pending at first, and its daemon. It notes the calls.
type platform struct {
	calls  []string
	looks  int
	stream string
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.calls = append(p.calls, r.Method+" "+r.URL.Path)
	if r.URL.Path != "/proxy/44772/command" && r.Header.Get("OPEN-SANDBOX-API-KEY") != apiKey {
		http.Error(w, `{"code":"UNAUTHORIZED","message":"no key"}`, http.StatusUnauthorized)
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/sandboxes":
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(`{"id":"one","status":{"state":"Pending"}}`))
	case "GET /v1/sandboxes/one":
		p.looks++
		_, _ = w.Write([]byte(`{"id":"one","status":{"state":"` + []string{"Pending", "Running"}[p.looks-1] + `"}}`))
	case "GET /v1/sandboxes/one/endpoints/44772":
		_ = json.NewEncoder(w).Encode(endpoint{Endpoint: r.Host + "/proxy/44772", Headers: map[string]string{"X-EXECD-ACCESS-TOKEN": token}})
	case "POST /proxy/44772/command":
		if r.Header.Get("X-EXECD-ACCESS-TOKEN") != token {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(p.stream))
	case "DELETE /v1/sandboxes/one":
		w.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(w, r)
	}
}

func TestDemonstration(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		key, stream    string
		wantOut, wantE string
		deleted        bool
	}{
		"prints the output and deletes": {
			key:     apiKey + "\n",
			stream:  `{"type":"init"}` + "\n\n" + `{"type":"stdout","text":"hello from box\n"}` + "\n\n" + `{"type":"execution_complete"}` + "\n\n",
			wantOut: "\n  hello from box\n", deleted: true,
		},
		"deletes after a failed command": {
			key: apiKey, stream: `{"type":"error","error":{"ename":"CommandExecError","evalue":"3"}}`, wantE: "CommandExecError 3", deleted: true,
		},
		"a cut stream is an error":      {key: apiKey, stream: `{"type":"stdout","text":"x"}`, wantE: "ended before", deleted: true},
		"the server's words are passed": {key: secrettest.New("a wrong key"), wantE: "UNAUTHORIZED"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &platform{stream: tt.stream}
			server := httptest.NewServer(p)
			t.Cleanup(server.Close)
			key := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(key, []byte(tt.key), 0o600); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			err := run(t.Context(), &out, server.URL+"/", key, "image")
			if (err == nil) != (tt.wantE == "") || err != nil && !strings.Contains(err.Error(), tt.wantE) {
				t.Errorf("error %v, want %q", err, tt.wantE)
			}
			secrettest.Absent(t, "what is said", fmt.Sprint(out.String(), err))
			if !strings.Contains(out.String(), tt.wantOut) {
				t.Errorf("output %q lacks %q", out.String(), tt.wantOut)
			}
			if got := p.calls[len(p.calls)-1] == "DELETE /v1/sandboxes/one"; got != tt.deleted {
				t.Errorf("calls %q, want a delete at the end: %t", p.calls, tt.deleted)
			}
		})
	}
}

func FuzzOutput(f *testing.F) {
	f.Add(`{"type":"stdout","text":"a"}` + "\n\n" + `{"type":"execution_complete"}`)
	f.Add(`{"type":"error"}`)
	f.Fuzz(func(t *testing.T, stream string) {
		var out strings.Builder
		if err := output(strings.NewReader(stream), &out); err == nil && !strings.Contains(stream, "{") {
			t.Errorf("success without any event in %q", stream)
		}
	})
}
