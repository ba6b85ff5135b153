package httpapi

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/secrettest"
	"opensandbox/services/execd/internal/code"
	"opensandbox/services/execd/internal/command"
	"opensandbox/services/execd/internal/environ"
	"opensandbox/services/execd/internal/files"
	"opensandbox/services/execd/internal/identity"
	"opensandbox/services/execd/internal/metrics"
	"opensandbox/services/execd/internal/proxy"
	"opensandbox/services/execd/internal/reap"
	"opensandbox/services/execd/internal/reap/reaptest"
	"opensandbox/services/execd/internal/session"
	"opensandbox/services/execd/internal/terminal"
)

// reaper is the only one of the test process: it collects every child.
var reaper *reap.Reaper

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == identity.Flag { // Started by execd's identity routes: this program is the test.
		_ = identity.Work(NewFileWorker(files.New(os.Environ(), []string{os.TempDir()}), slog.Default()))
		return
	}
	secret = secrettest.New("the token of a daemon")
	reaper = reap.New()
	reaptest.Main(m, reaper, http.DefaultClient.CloseIdleConnections)
}

// secret is the token of the daemons that want one. Workers under another identity run this program too, and may not list anything.
var secret string

// long bounds every wait for what a process or a connection does.
const long = 60 * time.Second

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(long); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// sandbox is an execd over real HTTP, with real processes and files.
type sandbox struct {
	t       *testing.T
	url     string
	dir     string
	envFile string
	token   string
	cmds    *command.Manager
}

type setup struct {
	token     string
	openProxy bool
	// kernels run code; without them the sandbox has none.
	kernels    code.Kernels
	kernelPort int
	executed   func(operation string, ok bool, took time.Duration)
}

func start(t *testing.T, s setup) *sandbox {
	t.Helper()
	dir := t.TempDir()
	sb := &sandbox{t: t, dir: dir, envFile: filepath.Join(dir, "env"), token: s.token}
	if err := environ.EnsureFile(sb.envFile); err != nil {
		t.Fatal(err)
	}
	env := environ.Merge(environ.Visible(os.Environ()), map[string]string{"EXECD_ENVS": sb.envFile, "HOME": dir, "OPENSANDBOX_ID": "sb1"})
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	out := []string{"/proc/no/such/directory", filepath.Join(dir, "out")}
	cmds := command.New(command.Config{Starter: reaper, Env: env, EnvFile: sb.envFile, OutputDirs: out, Log: log})
	workers := identity.New(reaper, env)
	terminals := terminal.New(terminal.Config{Starter: reaper, Commands: cmds, Proc: "/proc", Log: log})
	snippets := code.New(code.Config{Kernels: s.kernels, Missing: "no kernels here", MakeDir: func(cwd string) (string, error) {
		return cmds.MakeDir(cwd, env)
	}})
	px := proxy.New(BackendFailed, log)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	srv := httptest.NewUnstartedServer(New(Config{
		Commands: cmds, Sessions: session.New(cmds, log), Terminals: terminals, Code: snippets, Files: files.New(env, out), Identities: workers,
		Metrics: metrics.New("/proc", "/sys/fs/cgroup"), Proxy: px.Serve,
		Port: port, Token: s.token, OpenProxy: s.openProxy, KernelPort: s.kernelPort, Executed: s.executed, Log: log,
	}))
	srv.Listener.Close()
	srv.Listener = ln
	srv.Start()
	sb.url, sb.cmds = srv.URL, cmds
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		terminals.Close()
		cmds.Close()
		workers.Close()
		snippets.Close()
		px.Close()
	})
	return sb
}

// answer is a read response.
type answer struct {
	*http.Response
	body string
}

// do sends a request with the sandbox's token; a path may be any raw request target.
func (s *sandbox) do(method, path string, body any, headers ...string) answer {
	s.t.Helper()
	var rd io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		rd = strings.NewReader(b)
	case io.Reader:
		rd = b
	default:
		data, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		rd = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, s.url+path, rd)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.token != "" {
		req.Header.Set(TokenHeader, s.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == TokenHeader && headers[i+1] == "" {
			req.Header.Del(TokenHeader)
		}
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := c.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{res, string(data)}
}

// wantError checks status and code of a JSON error.
func (a answer) wantError(t *testing.T, status int, code string) {
	t.Helper()
	var f failure
	err := json.Unmarshal([]byte(a.body), &f)
	if a.StatusCode != status || err != nil || f.Code != code || f.Message == "" {
		t.Errorf("%s %s: got %d %q, want %d with code %s and a message", a.Request.Method, a.Request.URL.Path, a.StatusCode, a.body, status, code)
	}
}

// wantEmpty checks for an empty 200 with an explicit length.
func (a answer) wantEmpty(t *testing.T) {
	t.Helper()
	if a.StatusCode != 200 || a.body != "" || a.Header.Get("Content-Length") != "0" {
		t.Errorf("%s %s: got %d %q length %q, want an empty 200 with length 0", a.Request.Method, a.Request.URL.Path, a.StatusCode, a.body, a.Header.Get("Content-Length"))
	}
}

type event struct {
	Type          string `json:"type"`
	Text          string `json:"text"`
	Timestamp     int64  `json:"timestamp"`
	ExecutionTime int64  `json:"execution_time"`
	Error         *struct {
		Name  string   `json:"ename"`
		Value string   `json:"evalue"`
		Trace []string `json:"traceback"`
	} `json:"error"`
}

// run runs a command and returns its events without pings.
func (s *sandbox) run(body any) []event {
	s.t.Helper()
	a := s.do("POST", "/command", body)
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("command: got %d %s %s", a.StatusCode, a.Header.Get("Content-Type"), a.body)
	}
	return parseEvents(s.t, a.body)
}

func parseEvents(t *testing.T, body string) []event {
	t.Helper()
	var out []event
	rest, ok := strings.CutSuffix(body, "\n\n")
	if !ok {
		t.Fatalf("the stream does not end in a blank line: %q", body)
	}
	for i, frame := range strings.Split(rest, "\n\n") {
		var e event
		if err := json.Unmarshal([]byte(frame), &e); err != nil || strings.Contains(frame, "\n") {
			t.Fatalf("frame %q: %v", frame, err)
		}
		if e.Timestamp == 0 {
			t.Errorf("frame %q has no timestamp", frame)
		}
		if i == 0 && e.Type != "init" || i == 1 && e.Type != "ping" {
			t.Errorf("event %d is %s, want init, then ping", i, e.Type)
		}
		if e.Type != "ping" {
			out = append(out, e)
		}
	}
	return out
}

// text joins the output of one stream.
func text(events []event, stream string) string {
	var b strings.Builder
	for _, e := range events {
		if e.Type == stream {
			b.WriteString(e.Text)
		}
	}
	return b.String()
}

// outcome names the one final event: "ok", or name and value of the error.
func outcome(t *testing.T, events []event) string {
	t.Helper()
	last := events[len(events)-1]
	for _, e := range events[1 : len(events)-1] {
		if e.Type == "error" || e.Type == "execution_complete" || e.Type == "init" {
			t.Errorf("%s in the middle of the stream", e.Type)
		}
	}
	switch {
	case last.Type == "execution_complete":
		return "ok"
	case last.Type == "error" && last.Error != nil && len(last.Error.Trace) == 1:
		return last.Error.Name + " " + last.Error.Value + " " + last.Error.Trace[0]
	default:
		t.Errorf("last event is %+v, want a final one", last)
		return ""
	}
}
