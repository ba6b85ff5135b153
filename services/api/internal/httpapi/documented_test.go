package httpapi

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"opensandbox/libs/kitx"
)

// The routes and the document say the same: nothing is served that is not documented, and nothing is documented that is not served. Ports
// of sandboxes are left out, since their paths need not go through the routes; package app asks for them.
func TestEveryRouteIsDocumented(t *testing.T) {
	t.Parallel()
	kit, err := kitx.New(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{Version: "1"}, nil, kit)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/openapi.json", nil))
	var document struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	var documented []string
	for path, item := range document.Paths {
		for method := range item {
			if method != "parameters" && !strings.Contains(path, "/proxy/") {
				documented = append(documented, strings.ToUpper(method)+" "+path)
			}
		}
	}
	var served []string
	for _, p := range kit.Patterns() {
		if !strings.Contains(p, "/proxy/") {
			served = append(served, p)
		}
	}
	slices.Sort(documented)
	slices.Sort(served)
	if diff := cmp.Diff(served, documented); diff != "" {
		t.Errorf("routes (-served +documented):\n%s", diff)
	}
}
