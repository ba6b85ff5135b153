package httpapi

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/secrettest"
	"opensandbox/services/execd/internal/jupyter"
	"opensandbox/services/execd/internal/jupyter/jupytertest"
)

type object = map[string]any

// withKernels starts an execd whose kernels are those of a fake Jupyter server.
func withKernels(t *testing.T) (*sandbox, *jupytertest.Fake) {
	t.Helper()
	return withKernelsAnd(t, setup{})
}

// withKernelsAnd is withKernels with further settings.
func withKernelsAnd(t *testing.T, s setup) (*sandbox, *jupytertest.Fake) {
	t.Helper()
	token := secrettest.New("the token of Jupyter")
	fake := jupytertest.NewFake(t, token)
	client, err := jupyter.New(jupyter.Config{URL: fake.URL, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	s.kernels = client
	return start(t, s), fake
}

func snippet(code, id, language string) object {
	ctx := object{}
	if id != "" {
		ctx["id"] = id
	}
	if language != "" {
		ctx["language"] = language
	}
	return object{"code": code, "context": ctx}
}

// events runs a snippet and returns the events of its stream, without pings and times, a line of JSON each.
func (s *sandbox) events(body object) []string {
	s.t.Helper()
	a := s.do("POST", "/code", body)
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("code: got %d %s", a.StatusCode, a.body)
	}
	parseEvents(s.t, a.body) // Framing.
	var out []string
	for _, frame := range strings.Split(strings.TrimSuffix(a.body, "\n\n"), "\n\n") {
		var e object
		if err := json.Unmarshal([]byte(frame), &e); err != nil {
			s.t.Fatal(err)
		}
		delete(e, "timestamp")
		delete(e, "execution_time")
		if e["type"] == "ping" {
			continue
		}
		line, err := json.Marshal(e)
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, string(line))
	}
	return out
}

func (s *sandbox) newContext(body object) string {
	s.t.Helper()
	a := s.do("POST", "/code/context", body)
	var c struct{ ID, Language string }
	if err := json.Unmarshal([]byte(a.body), &c); a.StatusCode != 200 || err != nil || c.ID == "" || c.Language != body["language"] {
		s.t.Fatalf("create of a context: %d %s", a.StatusCode, a.body)
	}
	return c.ID
}

func TestCodeEvents(t *testing.T) {
	t.Parallel()
	s, fake := withKernels(t)
	fake.On("all", func(talk *jupytertest.Talk) {
		talk.Print("stdout", "a\n\u2028b")
		talk.Print("stderr", "c")
		talk.Message("display_data", "", object{"data": object{"text/plain": "figure", "image/png": "iVBO"}})
		talk.Result(object{"text/plain": "2", "text/html": "<b>2</b>", "application/json": object{"a": 1}})
	})
	id := s.newContext(object{"language": "python"})
	init := fmt.Sprintf(`{"text":%q,"type":"init"}`, id)
	for _, tt := range []struct {
		code string
		want []string
	}{
		{"all", []string{
			init, `{"text":"a\n\u2028b","type":"stdout"}`, `{"text":"c","type":"stderr"}`,
			`{"results":{"image/png":"iVBO","text":"figure","text/plain":"figure"},"type":"display"}`,
			`{"execution_count":1,"type":"execution_count"}`,
			`{"results":{"application/json":"{\"a\":1}","text":"2","text/html":"\u003cb\u003e2\u003c/b\u003e","text/plain":"2"},"type":"result"}`,
			`{"type":"execution_complete"}`,
		}},
		{"1 / 0", []string{
			init, `{"text":"error","type":"status"}`,
			`{"error":{"ename":"ZeroDivisionError","evalue":"division by zero","traceback":["Traceback","ZeroDivisionError: division by zero"]},"type":"error"}`,
			`{"type":"execution_complete"}`,
		}},
		{"import os; os._exit(3)", []string{
			init, `{"error":{"ename":"RUNTIME_ERROR","evalue":"the kernel died; it starts again without its variables",` +
				`"traceback":["the kernel died; it starts again without its variables"]},"type":"error"}`,
		}},
	} {
		if d := cmp.Diff(tt.want, s.events(snippet(tt.code, id, "python"))); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.code, d)
		}
	}
}

func TestCodeContexts(t *testing.T) {
	t.Parallel()
	s, fake := withKernels(t)
	if a := s.do("GET", "/code/contexts?language=python", nil); a.body != "[]" {
		t.Errorf("no contexts: got %s", a.body)
	}
	dir := filepath.Join(s.dir, "made/for/it")
	a := s.do("POST", "/code/context", object{"language": "python", "cwd": "~/made/for/it"})
	if want := fmt.Sprintf(`{"id":"session-1","language":"python","cwd":%q}`, dir); a.body != want {
		t.Errorf("create: got %s, want %s", a.body, want)
	}
	if got := s.events(snippet("import os; os.getcwd()", "session-1", "python")); !strings.Contains(strings.Join(got, ""), "'"+dir+"'") {
		t.Errorf("directory: got %v, want %s", got, dir)
	}
	s.newContext(object{"language": "bash"})
	s.newContext(object{"language": "python"})
	for path, want := range map[string]string{
		"/code/contexts":                 `[{"id":"session-1","language":"python","cwd":"` + dir + `"},{"id":"session-2","language":"bash"},{"id":"session-3","language":"python"}]`,
		"/code/contexts?language=bash":   `[{"id":"session-2","language":"bash"}]`,
		"/code/contexts?language=java":   `[]`,
		"/code/contexts/session-3":       `{"id":"session-3","language":"python"}`,
		"/code/contexts?language=python": `[{"id":"session-1","language":"python","cwd":"` + dir + `"},{"id":"session-3","language":"python"}]`,
	} {
		if a := s.do("GET", path, nil); a.StatusCode != 200 || a.body != want {
			t.Errorf("%s: got %d %s, want %s", path, a.StatusCode, a.body, want)
		}
	}
	s.do("DELETE", "/code/contexts/session-1", nil).wantEmpty(t)
	s.do("DELETE", "/code/contexts/session-1", nil).wantError(t, 404, "CONTEXT_NOT_FOUND")
	s.do("GET", "/code/contexts/session-1", nil).wantError(t, 404, "CONTEXT_NOT_FOUND")
	s.do("DELETE", "/code/contexts", nil).wantError(t, 400, "MISSING_QUERY")
	s.do("DELETE", "/code/contexts?language=python", nil).wantEmpty(t)
	s.do("DELETE", "/code/contexts?language=python", nil).wantEmpty(t)
	if a := s.do("GET", "/code/contexts", nil); a.body != `[{"id":"session-2","language":"bash"}]` || fake.Sessions() != 1 {
		t.Errorf("after the deletes: got %s, %d kernels", a.body, fake.Sessions())
	}
	fake.Fail("DELETE /api/sessions/session-2", 500)
	s.do("DELETE", "/code/contexts/session-2", nil).wantError(t, 500, "RUNTIME_ERROR")
	if a := s.do("GET", "/code/contexts/session-2", nil); a.StatusCode != 200 {
		t.Errorf("a context that could not be ended is gone: %s", a.body)
	}
}

// TestDefaultContext asks for it many times at once: it is made once.
func TestDefaultContext(t *testing.T) {
	t.Parallel()
	s, fake := withKernels(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { s.events(snippet("1 + 1", "", "python")) })
	}
	all.Wait()
	if n := fake.Made(); n != 1 {
		t.Errorf("%d kernels were made, want 1", n)
	}
	s.events(snippet("x = 41", "", "python"))
	if got := strings.Join(s.events(snippet("x + 1", "", "python")), ""); !strings.Contains(got, `"text":"42"`) {
		t.Errorf("the default context forgot a variable: %s", got)
	}
	s.do("DELETE", "/code/contexts?language=python", nil).wantEmpty(t)
	if got := strings.Join(s.events(snippet("x + 1", "", "python")), ""); !strings.Contains(got, "NameError") {
		t.Errorf("a deleted default context was used: %s", got)
	}
}

func TestCodeRefusals(t *testing.T) {
	t.Parallel()
	s, fake := withKernels(t)
	none := start(t, setup{})
	for _, tt := range []struct {
		s            *sandbox
		method, path string
		body         any
		status       int
		code, text   string
	}{
		{s, "POST", "/code", object{}, 400, "INVALID_REQUEST_BODY", "code is required"},
		{s, "POST", "/code", "{", 400, "INVALID_REQUEST_BODY", ""},
		{s, "POST", "/code", snippet("1", "", "sql"), 501, "NOT_SUPPORTED", "SQL"},
		{s, "POST", "/code", snippet("1", "", "cobol"), 500, "RUNTIME_ERROR", "unknown language: cobol"},
		{s, "POST", "/code", snippet("1", "", "java"), 500, "RUNTIME_ERROR", "no kernel for java"},
		{s, "POST", "/code", snippet("1", "unknown", "python"), 500, "RUNTIME_ERROR", "context not found"},
		{s, "POST", "/code/context", object{}, 400, "INVALID_REQUEST_BODY", "language is required"},
		{s, "POST", "/code/context", object{"language": "python", "cwd": "$NOWHERE"}, 400, "INVALID_REQUEST_BODY", "cwd"},
		{s, "POST", "/code/context", object{"language": "python", "cwd": "/proc/x"}, 500, "RUNTIME_ERROR", "working directory"},
		{s, "POST", "/code/context", object{"language": "command"}, 500, "RUNTIME_ERROR", "unsupported language context operation"},
		{s, "GET", "/code/contexts?language=sql", nil, 501, "NOT_SUPPORTED", "SQL"},
		{s, "GET", "/code/contexts?language=command", nil, 500, "RUNTIME_ERROR", "unsupported language context operation"},
		{s, "DELETE", "/code", nil, 400, "MISSING_QUERY", "id"},
		{s, "DELETE", "/code?id=unknown", nil, 500, "RUNTIME_ERROR", "no such session"},
		{s, "PUT", "/code", nil, 405, "METHOD_NOT_ALLOWED", ""},
		{none, "POST", "/code", snippet("1", "", "python"), 500, "RUNTIME_ERROR", "no kernels here"},
		{none, "POST", "/code/context", object{"language": "python"}, 500, "RUNTIME_ERROR", "no kernels here"},
	} {
		a := tt.s.do(tt.method, tt.path, tt.body)
		a.wantError(t, tt.status, tt.code)
		if !strings.Contains(a.body, tt.text) {
			t.Errorf("%s %s: got %s, want %q in it", tt.method, tt.path, a.body, tt.text)
		}
	}
	if a := none.do("GET", "/code/contexts", nil); a.body != "[]" {
		t.Errorf("no kernels: got %s", a.body)
	}
	id := s.newContext(object{"language": "python"})
	fake.Forget()
	a := s.do("POST", "/code", snippet("1 + 1", id, "python"))
	a.wantError(t, 500, "RUNTIME_ERROR")
	if !strings.Contains(a.body, "is lost with its variables") {
		t.Errorf("a kernel that is gone: got %s", a.body)
	}
	s.do("GET", "/code/contexts/"+id, nil).wantError(t, 404, "CONTEXT_NOT_FOUND")
}

// TestCodeAsCommand has the languages that are no languages.
func TestCodeAsCommand(t *testing.T) {
	t.Parallel()
	s, _ := withKernels(t)
	for _, body := range []object{{"code": "echo $((40 + 2))"}, snippet("echo $((40 + 2))", "", ""), snippet("echo $((40 + 2))", "", "command")} {
		if got := s.events(body); len(got) != 3 || got[1] != `{"text":"42\n","type":"stdout"}` || got[2] != `{"type":"execution_complete"}` {
			t.Errorf("%v: got %v", body, got)
		}
	}
	if got := s.events(snippet("sleep 0", "", "background-command")); len(got) != 2 || got[1] != `{"type":"execution_complete"}` {
		t.Errorf("background: got %v", got)
	}
	// A context knows its language.
	id := s.newContext(object{"language": "python"})
	if got := strings.Join(s.events(snippet("1 + 1", id, "")), ""); !strings.Contains(got, `"text":"2"`) {
		t.Errorf("a context without its language: got %s", got)
	}
}

// running starts a snippet that sleeps and returns, once it runs, the rest of its stream.
func (s *sandbox) running(id string) *http.Response {
	s.t.Helper()
	body, err := json.Marshal(snippet(`import time; print("started", flush=True); time.sleep(600)`, id, "python"))
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := http.Post(s.url+"/code", "application/json", strings.NewReader(string(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	for lines := bufio.NewReader(res.Body); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			s.t.Fatalf("the snippet does not start: %v", err)
		}
		if strings.Contains(line, "started") {
			res.Body = struct {
				*bufio.Reader
				closer
			}{lines, res.Body}
			return res
		}
	}
}

type closer interface{ Close() error }

// rest reads a stream to its end.
func rest(t *testing.T, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	var b strings.Builder
	if _, err := bufio.NewReader(res.Body).WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestCodeInterruptAndBusy(t *testing.T) {
	t.Parallel()
	s, _ := withKernels(t)
	id := s.newContext(object{"language": "python"})
	other := s.newContext(object{"language": "python"})
	for _, route := range []string{"/code", "/command"} {
		res := s.running(id)
		want := []string{
			fmt.Sprintf(`{"text":%q,"type":"init"}`, id),
			`{"error":{"ename":"RUNTIME_ERROR","evalue":"error running codes session is busy","traceback":["error running codes session is busy"]},"type":"error"}`,
		}
		if d := cmp.Diff(want, s.events(snippet("1 + 1", id, "python"))); d != "" {
			t.Errorf("busy (-want +got):\n%s", d)
		}
		if got := strings.Join(s.events(snippet("1 + 1", other, "python")), ""); !strings.Contains(got, `"text":"2"`) {
			t.Errorf("another context: got %s", got)
		}
		s.do("DELETE", route+"?id="+id, nil).wantEmpty(t)
		if got := rest(t, res); !strings.Contains(got, "KeyboardInterrupt") || strings.Count(got, "execution_complete") != 1 {
			t.Errorf("interrupted: got %s", got)
		}
	}
	s.do("DELETE", "/code?id="+id, nil).wantEmpty(t)
}

func TestDeleteOfABusyContext(t *testing.T) {
	t.Parallel()
	s, fake := withKernels(t)
	id := s.newContext(object{"language": "python"})
	res := s.running(id)
	s.do("DELETE", "/code/contexts/"+id, nil).wantEmpty(t)
	if got := rest(t, res); !strings.Contains(got, "the context was deleted") || strings.Contains(got, "execution_complete") {
		t.Errorf("got %s", got)
	}
	if n := fake.Sessions(); n != 0 {
		t.Errorf("%d kernels are left", n)
	}
}

// TestCodeGoesOnWithoutItsClient has a client that leaves: the context is busy until the snippet is done.
func TestCodeGoesOnWithoutItsClient(t *testing.T) {
	t.Parallel()
	s, _ := withKernels(t)
	id := s.newContext(object{"language": "python"})
	s.running(id).Body.Close()
	if got := strings.Join(s.events(snippet("1 + 1", id, "python")), ""); !strings.Contains(got, "session is busy") {
		t.Errorf("the snippet ended with its client: %s", got)
	}
	s.do("DELETE", "/code?id="+id, nil).wantEmpty(t)
	eventually(t, "the context is free again", func() bool {
		return strings.Contains(strings.Join(s.events(snippet("1 + 1", id, "python")), ""), `"text":"2"`)
	})
}

// TestKernelsNeedTheToken has a proxy that is open for all ports but that of the server which runs code.
func TestKernelsNeedTheToken(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer app.Close()
	_, text, _ := strings.Cut(strings.TrimPrefix(app.URL, "http://"), ":")
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ kernels, without int }{{port, 401}, {port + 1, 418}} {
		s := start(t, setup{token: secret, openProxy: true, kernelPort: tt.kernels})
		if a := s.do("GET", "/proxy/"+text+"/api", nil, TokenHeader, ""); a.StatusCode != tt.without {
			t.Errorf("kernels on %d, without the token: got %d, want %d", tt.kernels, a.StatusCode, tt.without)
		}
		if a := s.do("GET", "/proxy/"+text+"/api", nil); a.StatusCode != 418 {
			t.Errorf("kernels on %d, with the token: got %d", tt.kernels, a.StatusCode)
		}
	}
}
