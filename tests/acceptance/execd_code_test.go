//go:build e2e

package acceptance

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// jupyterImage has a Jupyter server as its entry point. It is built by scripts/images.sh.
const jupyterImage = "opensandbox/debian-jupyter:dev"

// kernelPatience bounds the start of Jupyter and of a kernel, which takes a busy machine long.
const kernelPatience = 3 * time.Minute

// interpreter creates a sandbox with Jupyter.
func (s *server) interpreter() string {
	s.t.Helper()
	return s.create(m{
		"image": m{"uri": jupyterImage}, "entrypoint": []string{"/opt/code-interpreter/code-interpreter.sh"}, "resourceLimits": m{"cpu": "2", "memory": "1Gi"},
	})
}

// snippet runs code and returns its events without pings.
func (s *server) snippet(url string, header []string, code string, context m) []m {
	s.t.Helper()
	a, err := request("POST", url+"/code", m{"code": code, "context": context}, header...)
	if err != nil || a.status != http.StatusOK {
		s.t.Fatalf("code: %v %v", a, err)
	}
	var events []m
	for frame := range strings.SplitSeq(strings.TrimSuffix(string(a.body), "\n\n"), "\n\n") {
		var e m
		if err := json.Unmarshal([]byte(frame), &e); err != nil {
			s.t.Fatalf("frame %q: %v", frame, err)
		}
		if e["type"] != "ping" {
			events = append(events, e)
		}
	}
	return events
}

// kinds are the types of events, without repetitions that follow each other.
func kinds(events []m) []string {
	var out []string
	for _, e := range events {
		out = append(out, e["type"].(string))
	}
	return slices.Compact(out)
}

// codeContext creates a context, as soon as Jupyter answers.
func (s *server) codeContext(url string, header []string, body m) m {
	s.t.Helper()
	for end := time.Now().Add(kernelPatience); ; time.Sleep(100 * time.Millisecond) {
		a, err := request("POST", url+"/code/context", body, header...)
		if err == nil && a.status == http.StatusOK {
			return a.json(s.t)
		}
		if time.Now().After(end) {
			s.t.Fatalf("context: %v %v", a, err)
		}
	}
}

// Code runs in the kernels of a real Jupyter server: what each kind of snippet makes of the stream.
func TestRow29Code(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.interpreter()
	for name, way := range map[string]func(string, int) (string, []string){"direct": s.endpoint, "through the server": s.through} {
		t.Run(name, func(t *testing.T) {
			url, header := way(id, 44772)
			made := s.codeContext(url, header, m{"language": "python", "cwd": "/tmp/made/for/it"})
			python := m{"id": made["id"], "language": "python"}
			for _, c := range []struct {
				code    string
				context m
				want    []string
				text    string // in the events, as JSON
			}{
				{"print('out')", python, []string{"init", "stdout", "execution_complete"}, `"text":"out\n"`},
				{"import os; os.getcwd()", python, []string{"init", "execution_count", "result", "execution_complete"}, `"text":"'/tmp/made/for/it'"`},
				{"1 / 0", python, []string{"init", "status", "error", "execution_complete"}, `"ename":"ZeroDivisionError"`},
				{"input()", python, []string{"init", "status", "error", "execution_complete"}, `"ename":"StdinNotImplementedError"`},
				{"from IPython.display import HTML; HTML('hello')", python, []string{"init", "execution_count", "result", "execution_complete"}, `"text/html":"hello"`},
				{"display(HTML('hello'))", python, []string{"init", "display", "execution_complete"}, `"text/html":"hello"`},
				{"echo from bash", m{"language": "bash"}, []string{"init", "stdout", "execution_complete"}, `from bash`},
				{"echo $((1 + 1))", m{"language": "command"}, []string{"init", "stdout", "execution_complete"}, `"text":"2\n"`},
				{"import os; os._exit(3)", python, []string{"init", "error"}, `the kernel died`},
				{"1 + 1", python, []string{"init", "execution_count", "result", "execution_complete"}, `"text":"2"`},
			} {
				events := s.snippet(url, header, c.code, c.context)
				data, err := json.Marshal(events)
				if err != nil {
					t.Fatal(err)
				}
				if got := kinds(events); !slices.Equal(got, c.want) || !strings.Contains(string(data), c.text) {
					t.Errorf("%s: events %v, want %v with %s\n%s", c.code, got, c.want, c.text, data)
				}
			}
			a, err := request("DELETE", url+"/code/contexts?language=python", nil, header...)
			if err != nil || a.status != http.StatusOK || a.header.Get("Content-Length") != "0" {
				t.Errorf("delete of all contexts: %v %v", a, err)
			}
			a, err = request("GET", url+"/code/contexts?language=python", nil, header...)
			if err != nil || string(a.body) != "[]" {
				t.Errorf("contexts after their delete: %v %v", a, err)
			}
		})
	}
}

// An image without Jupyter says so, in the documented form.
func TestRow29CodeWithoutJupyter(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	url, header := s.endpoint(s.create(nil), 44772)
	for path, c := range map[string]struct {
		body   m
		status int
		text   string
	}{
		"/code":         {m{"code": "1 + 1", "context": m{"language": "python"}}, 500, "language runtime server not configured"},
		"/code/context": {m{"language": "python"}, 500, "language runtime server not configured"},
		"/code?sql":     {m{"code": "SELECT 1", "context": m{"language": "sql"}}, 501, "SQL"},
	} {
		a, err := request("POST", url+path, c.body, header...)
		if err != nil {
			t.Fatal(err)
		}
		wantEnvelope(t, path, a, c.status)
		if !strings.Contains(string(a.body), c.text) {
			t.Errorf("%s: %v, want %q", path, a, c.text)
		}
	}
}

// The published code interpreter SDK, unmodified, with everything that it can do.
func TestRow29PublishedCodeInterpreter(t *testing.T) {
	t.Parallel()
	python := filepath.Join(needEnv(t, "OPENSANDBOX_TEST_VENV"), "bin", "python")
	for _, args := range [][]string{{"sync", jupyterImage}, {"async", jupyterImage, "use_server_proxy"}} {
		t.Run(strings.ReplaceAll(strings.Join(args, " "), jupyterImage, "code"), func(t *testing.T) {
			t.Parallel()
			s := start(t, "")
			out, err := s.program(python, append([]string{"clients/interpreter.py"}, args...)...)
			if err != nil || !strings.Contains(out, args[0]+" side by side ok") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
