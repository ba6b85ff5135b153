package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"opensandbox/libs/terminaltest"
)

// terminal makes one and returns its path.
func (s *sandbox) terminal(body any) string {
	s.t.Helper()
	var made map[string]string
	a := s.do("POST", "/pty", body)
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || a.StatusCode != 201 || len(made["session_id"]) != 36 {
		s.t.Fatalf("terminal: %d %s", a.StatusCode, a.body)
	}
	return "/pty/" + made["session_id"]
}

func (s *sandbox) terminalStatus(path string) (running bool, offset int64) {
	s.t.Helper()
	var st struct {
		ID      string `json:"session_id"`
		Running bool   `json:"running"`
		Offset  int64  `json:"output_offset"`
	}
	a := s.do("GET", path, nil)
	if err := json.Unmarshal([]byte(a.body), &st); err != nil || a.StatusCode != 200 || "/pty/"+st.ID != path {
		s.t.Fatalf("status: %d %s", a.StatusCode, a.body)
	}
	return st.Running, st.Offset
}

// dial connects a client to a terminal.
func (s *sandbox) dial(path, query string) *terminaltest.Screen {
	s.t.Helper()
	return terminaltest.Dial(s.t, s.url+path+"/ws"+query, http.Header{TokenHeader: {s.token}})
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	s := start(t, setup{token: secret})
	path := s.terminal(obj{"cwd": filepath.Join(s.dir, "made")})
	if running, offset := s.terminalStatus(path); running || offset != 0 {
		t.Errorf("a terminal that nobody used: %v %d", running, offset)
	}
	c := s.dial(path, "")
	if c.Connected["mode"] != "pty" || c.Connected["role"] != "holder" || "/pty/"+c.Connected["session_id"].(string) != path || c.First != -1 {
		t.Errorf("connected: %v, replay from %d", c.Connected, c.First)
	}
	c.Types("stty size; pwd; echo $TERM; tty\n")
	c.Sees("24 80")
	c.Sees(s.dir + "/made")
	c.Sees(cmp.Or(os.Getenv("TERM"), "xterm-256color"))
	c.Sees("/dev/pts/")
	c.Says(`{"type":"resize","cols":133,"rows":44}`)
	c.Says(`{"type":"stdin","data":"stty size\n"}`)
	c.Sees("44 133")
	c.Says(`{"type":"ping"}`)
	c.Sees("<pong>")
	c.Says("rubbish")
	c.Says(`{"type":"dance"}`)
	c.Types("sh -c 'echo runs-$((1+1)); exec sleep 1000'\n")
	c.Sees("runs-2")
	c.Types("\x03echo after-$((40+2))\n")
	c.Sees("after-42")
	if running, _ := s.terminalStatus(path); !running {
		t.Error("status says that nothing runs")
	}
	c.Types("exit 7\n")
	code, err := c.End()
	if code != websocket.StatusNormalClosure || !strings.Contains(err.Error(), "process exited") || c.Exit["exit_code"] != 7.0 {
		t.Errorf("ended with %v, exit %v", err, c.Exit)
	}
	if len(c.Errors) != 1 || c.Errors[0] != "INVALID_FRAME" {
		t.Errorf("errors: %v", c.Errors)
	}
	if running, offset := s.terminalStatus(path); running || offset == 0 {
		t.Errorf("after the end: %v %d", running, offset)
	}
	// The next client starts a new process in the same session.
	again := s.dial(path, "")
	again.Sees("after-42")
	again.Types("echo again-$((1+1))\n")
	again.Sees("again-2")
	s.do("DELETE", path, nil).wantEmpty(t)
	if _, err := again.End(); again.Exit["exit_code"] != -1.0 {
		t.Errorf("after the delete: %v %v", again.Exit, err)
	}
	s.do("GET", path, nil).wantError(t, 404, "CONTEXT_NOT_FOUND")
	s.do("DELETE", path, nil).wantError(t, 404, "CONTEXT_NOT_FOUND")
}

func TestTerminalForms(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	for _, body := range []any{nil, "", "{}"} {
		s.terminal(body)
	}
	s.do("POST", "/pty", "{").wantError(t, 400, codeBody)
	s.do("POST", "/pty", obj{"cwd": "$UNDEFINED"}).wantError(t, 400, codeBody)
	s.do("POST", "/pty", obj{"cwd": "/dev/null/x"}).wantError(t, 500, codeRuntime)
	s.do("GET", "/pty/nope/ws", nil, "Connection", "Upgrade", "Upgrade", "websocket").wantError(t, 404, "CONTEXT_NOT_FOUND")
	path := s.terminal(nil)
	s.do("GET", path+"/ws", nil).wantError(t, 400, codeBody)
	s.do("GET", path+"/ws?mode=viewer", nil).wantError(t, 409, "NOT_RUNNING")
	c := s.dial(path, "?since=rubbish")
	s.do("GET", path+"/ws", nil).wantError(t, 409, "ALREADY_CONNECTED")
	s.do("GET", path+"/ws?takeover=1", nil).wantError(t, 409, "ALREADY_CONNECTED")
	c.Types("exit\n")
	if code, err := c.End(); code != websocket.StatusNormalClosure {
		t.Error(err)
	}
	guarded := start(t, setup{token: secret})
	guarded.do("POST", "/pty", nil, TokenHeader, "").wantError(t, 401, codeUnauthorized)
	guarded.do("GET", guarded.terminal(nil)+"/ws", nil, TokenHeader, "", "Connection", "Upgrade", "Upgrade", "websocket").wantError(t, 401, codeUnauthorized)
}

func TestTerminalCommand(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	c := s.dial(s.terminal(obj{"command": "[ -t 0 ] && [ -t 1 ] && printf 'on a terminal'; exit 3"}), "")
	if code, err := c.End(); code != websocket.StatusNormalClosure || string(c.Out) != "on a terminal" || c.Exit["exit_code"] != 3.0 {
		t.Errorf("%q, %v, %v", c.Out, c.Exit, err)
	}
	c = s.dial(s.terminal(obj{"command": "kill -9 $$"}), "")
	if _, err := c.End(); c.Exit["exit_code"] != -1.0 {
		t.Errorf("killed: %v %v", c.Exit, err)
	}
}

func TestTerminalOnPipes(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	path := s.terminal(obj{"command": "[ -t 0 ] || echo out; echo err >&2; read line; echo got $line; cat"})
	c := s.dial(path, "?pty=0")
	if c.Connected["mode"] != "pipe" {
		t.Errorf("connected: %v", c.Connected)
	}
	c.Types("a line\n")
	c.Sees("got a line\n")
	c.Sees("err\n")
	if string(c.Kinds[1]) != "out\ngot a line\n" || string(c.Kinds[2]) != "err\n" {
		t.Errorf("output %q, errors %q", c.Kinds[1], c.Kinds[2])
	}
	c.Says(`{"type":"resize","cols":1,"rows":1}`)
	v := s.dial(path, "?mode=viewer")
	v.Sees("got a line\n")
	if v.Connected["role"] != "viewer" || len(v.Kinds[1])+len(v.Kinds[2]) > 0 || v.First != 0 {
		t.Errorf("viewer: %v %v %d", v.Connected, v.Kinds, v.First)
	}
	c.Says(`{"type":"signal","signal":"SIGTERM"}`)
	if _, err := c.End(); c.Exit["exit_code"] != -1.0 {
		t.Errorf("after a signal: %v %v", c.Exit, err)
	}
	if code, err := v.End(); code != websocket.StatusNormalClosure || v.Exit["exit_code"] != -1.0 {
		t.Errorf("the viewer after it: %v %v", v.Exit, err)
	}
}

// Who comes back gets what was printed meanwhile, from the place that it names.
func TestTerminalReplay(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	path := s.terminal(obj{"command": "printf 0123456789; cat"})
	c := s.dial(path, "?pty=0")
	c.Sees("0123456789")
	c.Close()
	for query, want := range map[string]string{"": "0123456789", "&since=4": "456789", "&since=10": "", "&since=99": "", "&since=-3": "0123456789"} {
		c := s.again(path, "?pty=0"+query)
		if string(c.Out) != want || want != "" && c.First != int64(10-len(want)) {
			t.Errorf("%q: %q from %d, want %q", query, c.Out, c.First, want)
		}
		c.Close()
	}
	c = s.again(path, "?pty=0&since=10")
	big := strings.Repeat("0123456789abcde\n", 1000)
	for range 100 {
		c.Types(big)
	}
	for len(c.Out) < 100*len(big) {
		if err := c.Read(); err != nil {
			t.Fatal(err)
		}
	}
	v := s.dial(path, "?mode=viewer&since=3")
	total := 10 + int64(100*len(big))
	for len(v.Out) < 1<<20 {
		if err := v.Read(); err != nil {
			t.Fatal(err)
		}
	}
	if v.First != total-1<<20 || len(v.Out) != 1<<20 || !bytes.HasSuffix(v.Out, []byte(big)) {
		t.Errorf("kept are %d bytes from %d on, want %d from %d", len(v.Out), v.First, 1<<20, total-1<<20)
	}
	if _, offset := s.terminalStatus(path); offset != total {
		t.Errorf("offset %d, want %d", offset, total)
	}
}

// again dials as soon as the place is free.
func (s *sandbox) again(path, query string) *terminaltest.Screen {
	s.t.Helper()
	eventually(s.t, "the place is free", func() bool { return s.do("GET", path+"/ws", nil).StatusCode != 409 })
	return s.dial(path, query)
}

func TestTerminalTakeover(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	path := s.terminal(nil)
	first := s.dial(path, "")
	first.Types("echo one-$((1+1))\n")
	first.Sees("one-2")
	second := s.dial(path, "?takeover=1")
	if code, err := first.End(); code != 4001 || !strings.Contains(err.Error(), "TAKEN_OVER") {
		t.Errorf("the first ended with %v", err)
	}
	second.Sees("one-2")
	second.Types("echo two-$((1+1))\n")
	second.Sees("two-2")
}

func TestTerminalViewers(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	path := s.terminal(nil)
	holder := s.dial(path, "")
	holder.Types("echo kept-$((1+1))\n")
	holder.Sees("kept-2")
	viewer, slow, rude := s.dial(path, "?mode=viewer"), s.dial(path, "?mode=viewer"), s.dial(path, "?mode=viewer")
	viewer.Sees("kept-2")
	for range 4 {
		rude.Types("echo not me\n")
	}
	rude.Says(`{"type":"ping"}`)
	rude.Sees("<pong>")
	rude.Says(`{"type":"resize","cols":5,"rows":5}`)
	if code, err := rude.End(); code != websocket.StatusPolicyViolation || strings.Join(rude.Errors, " ") != "READ_ONLY READ_ONLY READ_ONLY READ_ONLY READ_ONLY" {
		t.Errorf("%v: %v", rude.Errors, err)
	}
	// The slow one reads nothing at all; nobody waits for it.
	var ended sync.WaitGroup
	ended.Go(func() {
		if code, err := viewer.End(); code != websocket.StatusNormalClosure || viewer.Exit["exit_code"] != 0.0 || !bytes.Contains(viewer.Out, []byte("done-2")) {
			t.Errorf("the viewer ended with %v %v", viewer.Exit, err)
		}
	})
	holder.Types("yes 0123456789abcdef0123456789abcdef | head -n 200000; echo done-$((1+1)); stty size\n")
	holder.Sees("done-2")
	holder.Sees("24 80")
	holder.Types("exit\n")
	if _, err := holder.End(); holder.Exit == nil {
		t.Error(err)
	}
	ended.Wait()
	if len(viewer.Kinds[1]) > 0 || len(slow.Kinds[1]) > 0 {
		t.Error("a viewer got a live frame")
	}
}

// A holder that does not read holds the process back and loses nothing.
func TestTerminalSlowHolder(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	path := s.terminal(obj{"command": "seq 1000000; echo end"})
	c := s.dial(path, "?pty=0")
	// It waits for a client that has not read yet: everything is still to come.
	if code, err := c.End(); code != websocket.StatusNormalClosure {
		t.Error(err)
	}
	lines := strings.Split(string(c.Out), "\n")
	if len(lines) != 1000002 || lines[0] != "1" || lines[999999] != "1000000" || lines[1000000] != "end" {
		t.Errorf("%d lines arrived, want 1000001", len(lines)-1)
	}
}

// Signals reach the job in the foreground, and a delete everything.
func TestTerminalSignals(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	path, file := s.terminal(nil), filepath.Join(s.dir, "pid")
	c := s.dial(path, "")
	c.Types("sh -c 'trap \"echo int-$((1+1))\" INT; echo ready-$((1+1)); while :; do sleep 0.05; done'\n")
	c.Sees("ready-2")
	c.Says(`{"type":"signal","signal":"SIGINT"}`)
	c.Sees("int-2")
	c.Says(`{"type":"signal","signal":"SIGQUIT"}`)
	c.Types("sleep 1000 & echo $! >" + file + "\n")
	pid := pidIn(t, file)
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatal(err)
	}
	s.do("DELETE", path, nil).wantEmpty(t)
	gone(t, pid)
	if _, err := c.End(); c.Exit == nil {
		t.Error(err)
	}
}

func TestTerminalsEndWithTheDaemon(t *testing.T) {
	s := start(t, setup{})
	for range 3 {
		path := s.terminal(nil)
		s.dial(path, "")
		s.dial(path, "?mode=viewer")
	}
	// The rest is the clean-up: it must not hang, and TestMain finds what is left.
}

// TestSilentClients: a client is given up when nothing is heard of it, not when nobody listens.
func TestSilentClients(t *testing.T) {
	t.Parallel()
	now := time.Now()
	late, broken := fmt.Errorf("no pong: %w", context.DeadlineExceeded), errors.New("broken pipe")
	for name, tt := range map[string]struct {
		ping  error
		heard time.Duration
		waits bool
		want  bool
	}{
		"answers":                          {nil, 2 * wsSilence, false, false},
		"was heard":                        {late, wsSilence / 2, false, false},
		"is silent":                        {late, 2 * wsSilence, false, true},
		"its input waits":                  {late, 2 * wsSilence, true, false},
		"its input waits, and it has left": {broken, 0, true, true},
	} {
		c := &connection{}
		c.heard.Store(now.Add(-tt.heard).UnixNano())
		c.waits.Store(tt.waits)
		if got := c.silent(tt.ping, now); got != tt.want {
			t.Errorf("%s: is it given up: %t", name, got)
		}
	}
}
