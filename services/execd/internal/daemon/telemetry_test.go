package daemon

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCollectorHearsOfEverything: all metrics of OpenSandbox 1.1.1. Not parallel: see TestEntryPointDecides.
func TestCollectorHearsOfEverything(t *testing.T) {
	wants := []string{
		`"execd.http.request.duration"`, `"execd.execution.duration"`, `"execd.filesystem.operations.duration"`, `"execd.system.process.count"`,
		`"execd.system.cpu.usage"`, `"execd.system.memory.usage_bytes"`, `"execd.system.network.io.bytes"`, `"execd.system.network.connections.active"`,
		`"run_command"`, `"run_in_session"`, `"success"`, `"failure"`, `"download"`, `"/ping"`, `"404"`, `{"key":"sandbox_id","value":{"stringValue":"sb1"}}`,
	}
	bodies := make(chan string)
	done := make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		select {
		case bodies <- string(b):
		case <-r.Context().Done():
		case <-done:
		}
	}))
	defer collector.Close()
	dir, port := t.TempDir(), freePort(t)
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		wait(t, func() bool { return answers(port) })
		base := "http://127.0.0.1:" + port
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		for _, body := range []string{`{"command":"true"}`, `{"command":"exit 3"}`} {
			if res, err := client.Post(base+"/command", "", strings.NewReader(body)); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		}
		if res, err := client.Post(base+"/session", "", nil); err == nil {
			var session struct {
				ID string `json:"session_id"`
			}
			_ = json.NewDecoder(res.Body).Decode(&session)
			res.Body.Close()
			if res, err := client.Post(base+"/session/"+session.ID+"/run", "", strings.NewReader(`{"command":"true"}`)); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		}
		if res, err := client.Get(base + "/files/download?path=/nonexistent"); err == nil {
			res.Body.Close()
		}
		for body := range bodies {
			if !slices.ContainsFunc(wants, func(want string) bool { return !strings.Contains(body, want) }) {
				break
			}
		}
		close(done)
		_ = os.WriteFile(filepath.Join(dir, "asked"), nil, 0o600)
	}()
	env := append(os.Environ(), "EXECD_ENVS="+filepath.Join(dir, "env"), "OPENSANDBOX_ID=sb1", "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL,
		"OTEL_METRIC_EXPORT_INTERVAL=100")
	var out bytes.Buffer
	code := Run([]string{"--init", "--port", port, "--", "sh", "-c", "while [ ! -e " + dir + "/asked ]; do sleep 0.01; done"}, env, &out, &out)
	<-asked
	if code != 0 || out.Len() > 0 {
		t.Fatalf("got %d %q", code, out.String())
	}
}
