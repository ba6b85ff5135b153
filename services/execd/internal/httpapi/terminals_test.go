package httpapi

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/coder/websocket"
)

func TestTerminal(t *testing.T) {
	t.Parallel()
	s := start(t, setup{token: secret})
	path := s.terminal(obj{"cwd": filepath.Join(s.dir, "made")})
	if running, offset := s.terminalStatus(path); running || offset != 0 {
		t.Errorf("a terminal that nobody used: %v %d", running, offset)
	}
	c := s.dial(path, "")
	if c.connected["mode"] != "pty" || c.connected["role"] != "holder" || "/pty/"+c.connected["session_id"].(string) != path || c.first != -1 {
		t.Errorf("connected: %v, replay from %d", c.connected, c.first)
	}
	c.types("stty size; pwd; echo $TERM; tty\n")
	c.sees("24 80")
	c.sees(s.dir + "/made")
	c.sees(cmp.Or(os.Getenv("TERM"), "xterm-256color"))
	c.sees("/dev/pts/")
	c.says(`{"type":"resize","cols":133,"rows":44}`)
	c.says(`{"type":"stdin","data":"stty size\n"}`)
	c.sees("44 133")
	c.says(`{"type":"ping"}`)
	c.sees("<pong>")
	c.says("rubbish")
	c.says(`{"type":"dance"}`)
	c.types("sh -c 'echo runs-$((1+1)); exec sleep 1000'\n")
	c.sees("runs-2")
	c.types("\x03echo after-$((40+2))\n")
	c.sees("after-42")
	if running, _ := s.terminalStatus(path); !running {
		t.Error("status says that nothing runs")
	}
	c.types("exit 7\n")
	code, err := c.end()
	if code != websocket.StatusNormalClosure || !strings.Contains(err.Error(), "process exited") || c.exit["exit_code"] != 7.0 {
		t.Errorf("ended with %v, exit %v", err, c.exit)
	}
	if len(c.errors) != 1 || c.errors[0] != "INVALID_FRAME" {
		t.Errorf("errors: %v", c.errors)
	}
	if running, offset := s.terminalStatus(path); running || offset == 0 {
		t.Errorf("after the end: %v %d", running, offset)
	}
	// The next client starts a new process in the same session.
	again := s.dial(path, "")
	again.sees("after-42")
	again.types("echo again-$((1+1))\n")
	again.sees("again-2")
	s.do("DELETE", path, nil).wantEmpty(t)
	if _, err := again.end(); again.exit["exit_code"] != -1.0 {
		t.Errorf("after the delete: %v %v", again.exit, err)
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
	c.types("exit\n")
	if code, err := c.end(); code != websocket.StatusNormalClosure {
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
	if code, err := c.end(); code != websocket.StatusNormalClosure || string(c.out) != "on a terminal" || c.exit["exit_code"] != 3.0 {
		t.Errorf("%q, %v, %v", c.out, c.exit, err)
	}
	c = s.dial(s.terminal(obj{"command": "kill -9 $$"}), "")
	if _, err := c.end(); c.exit["exit_code"] != -1.0 {
		t.Errorf("killed: %v %v", c.exit, err)
	}
}

func TestTerminalOnPipes(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	path := s.terminal(obj{"command": "[ -t 0 ] || echo out; echo err >&2; read line; echo got $line; cat"})
	c := s.dial(path, "?pty=0")
	if c.connected["mode"] != "pipe" {
		t.Errorf("connected: %v", c.connected)
	}
	c.types("a line\n")
	c.sees("got a line\n")
	c.sees("err\n")
	if string(c.kinds[1]) != "out\ngot a line\n" || string(c.kinds[2]) != "err\n" {
		t.Errorf("output %q, errors %q", c.kinds[1], c.kinds[2])
	}
	c.says(`{"type":"resize","cols":1,"rows":1}`)
	v := s.dial(path, "?mode=viewer")
	v.sees("got a line\n")
	if v.connected["role"] != "viewer" || len(v.kinds[1])+len(v.kinds[2]) > 0 || v.first != 0 {
		t.Errorf("viewer: %v %v %d", v.connected, v.kinds, v.first)
	}
	c.says(`{"type":"signal","signal":"SIGTERM"}`)
	if _, err := c.end(); c.exit["exit_code"] != -1.0 {
		t.Errorf("after a signal: %v %v", c.exit, err)
	}
	if code, err := v.end(); code != websocket.StatusNormalClosure || v.exit["exit_code"] != -1.0 {
		t.Errorf("the viewer after it: %v %v", v.exit, err)
	}
}

// Who comes back gets what was printed meanwhile, from the place that it names.
func TestTerminalReplay(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	path := s.terminal(obj{"command": "printf 0123456789; cat"})
	c := s.dial(path, "?pty=0")
	c.sees("0123456789")
	if err := c.ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{"": "0123456789", "&since=4": "456789", "&since=10": "", "&since=99": "", "&since=-3": "0123456789"} {
		c := s.again(path, "?pty=0"+query)
		if string(c.out) != want || want != "" && c.first != int64(10-len(want)) {
			t.Errorf("%q: %q from %d, want %q", query, c.out, c.first, want)
		}
		if err := c.ws.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Fatal(err)
		}
	}
	c = s.again(path, "?pty=0&since=10")
	big := strings.Repeat("0123456789abcde\n", 1000)
	for range 100 {
		c.types(big)
	}
	for len(c.out) < 100*len(big) {
		if err := c.read(); err != nil {
			t.Fatal(err)
		}
	}
	v := s.dial(path, "?mode=viewer&since=3")
	total := 10 + int64(100*len(big))
	for len(v.out) < 1<<20 {
		if err := v.read(); err != nil {
			t.Fatal(err)
		}
	}
	if v.first != total-1<<20 || len(v.out) != 1<<20 || !bytes.HasSuffix(v.out, []byte(big)) {
		t.Errorf("kept are %d bytes from %d on, want %d from %d", len(v.out), v.first, 1<<20, total-1<<20)
	}
	if _, offset := s.terminalStatus(path); offset != total {
		t.Errorf("offset %d, want %d", offset, total)
	}
}

func TestTerminalTakeover(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	path := s.terminal(nil)
	first := s.dial(path, "")
	first.types("echo one-$((1+1))\n")
	first.sees("one-2")
	second := s.dial(path, "?takeover=1")
	if code, err := first.end(); code != 4001 || !strings.Contains(err.Error(), "TAKEN_OVER") {
		t.Errorf("the first ended with %v", err)
	}
	second.sees("one-2")
	second.types("echo two-$((1+1))\n")
	second.sees("two-2")
}

func TestTerminalViewers(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	path := s.terminal(nil)
	holder := s.dial(path, "")
	holder.types("echo kept-$((1+1))\n")
	holder.sees("kept-2")
	viewer, slow, rude := s.dial(path, "?mode=viewer"), s.dial(path, "?mode=viewer"), s.dial(path, "?mode=viewer")
	viewer.sees("kept-2")
	for range 4 {
		rude.types("echo not me\n")
	}
	rude.says(`{"type":"ping"}`)
	rude.sees("<pong>")
	rude.says(`{"type":"resize","cols":5,"rows":5}`)
	if code, err := rude.end(); code != websocket.StatusPolicyViolation || strings.Join(rude.errors, " ") != "READ_ONLY READ_ONLY READ_ONLY READ_ONLY READ_ONLY" {
		t.Errorf("%v: %v", rude.errors, err)
	}
	// The slow one reads nothing at all; nobody waits for it.
	var ended sync.WaitGroup
	ended.Go(func() {
		if code, err := viewer.end(); code != websocket.StatusNormalClosure || viewer.exit["exit_code"] != 0.0 || !bytes.Contains(viewer.out, []byte("done-2")) {
			t.Errorf("the viewer ended with %v %v", viewer.exit, err)
		}
	})
	holder.types("yes 0123456789abcdef0123456789abcdef | head -n 200000; echo done-$((1+1)); stty size\n")
	holder.sees("done-2")
	holder.sees("24 80")
	holder.types("exit\n")
	if _, err := holder.end(); holder.exit == nil {
		t.Error(err)
	}
	ended.Wait()
	if len(viewer.kinds[1]) > 0 || len(slow.kinds[1]) > 0 {
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
	if code, err := c.end(); code != websocket.StatusNormalClosure {
		t.Error(err)
	}
	lines := strings.Split(string(c.out), "\n")
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
	c.types("sh -c 'trap \"echo int-$((1+1))\" INT; echo ready-$((1+1)); while :; do sleep 0.05; done'\n")
	c.sees("ready-2")
	c.says(`{"type":"signal","signal":"SIGINT"}`)
	c.sees("int-2")
	c.says(`{"type":"signal","signal":"SIGQUIT"}`)
	c.types("sleep 1000 & echo $! >" + file + "\n")
	pid := pidIn(t, file)
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatal(err)
	}
	s.do("DELETE", path, nil).wantEmpty(t)
	gone(t, pid)
	if _, err := c.end(); c.exit == nil {
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
