package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
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
)

// long bounds every wait of these tests.
const long = 60 * time.Second

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

// screen is a client of a terminal.
type screen struct {
	t   *testing.T
	ctx context.Context
	ws  *websocket.Conn
	// first is the offset of the first replayed byte, -1 without a replay.
	first int64
	// connected is the frame of that name.
	connected obj
	// kinds are the first bytes of the frames with output, out their text.
	kinds map[byte][]byte
	out   []byte
	// searched is how much of out "sees" has looked through.
	searched int
	// errors are the codes of error frames.
	errors []string
	exit   obj
}

// dial connects; the client has seen everything up to "connected".
func (s *sandbox) dial(path, query string) *screen {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	s.t.Cleanup(cancel)
	ws, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.url, "http")+path+"/ws"+query, &websocket.DialOptions{HTTPHeader: http.Header{TokenHeader: {s.token}}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(4 << 20)
	c := &screen{t: s.t, ctx: ctx, ws: ws, first: -1, kinds: map[byte][]byte{}}
	for c.connected == nil {
		if err := c.read(); err != nil {
			s.t.Fatal(err)
		}
	}
	return c
}

// read takes one frame.
func (c *screen) read() error {
	kind, b, err := c.ws.Read(c.ctx)
	if err != nil {
		return err
	}
	if kind == websocket.MessageBinary {
		data := b[1:]
		if b[0] == 3 {
			if c.first < 0 {
				c.first = int64(binary.BigEndian.Uint64(b[1:]))
			}
			data = b[9:]
		}
		c.kinds[b[0]] = append(c.kinds[b[0]], data...)
		c.out = append(c.out, data...)
		return nil
	}
	var msg obj
	if err := json.Unmarshal(b, &msg); err != nil {
		return fmt.Errorf("frame %q: %w", b, err)
	}
	switch msg["type"] {
	case "connected":
		c.connected = msg
	case "exit":
		c.exit = msg
	case "error":
		c.errors = append(c.errors, msg["code"].(string))
	case "pong":
		c.out = append(c.out, "<pong>"...)
	}
	return nil
}

// sees reads until the output holds a text.
func (c *screen) sees(want string) {
	c.t.Helper()
	for !bytes.Contains(c.out[max(0, c.searched-len(want)):], []byte(want)) {
		c.searched = len(c.out)
		if err := c.read(); err != nil {
			c.t.Fatalf("never saw %q but %q and %v: %v", want, c.out[max(0, len(c.out)-500):], c.errors, err)
		}
	}
	c.searched = 0
}

// end reads until the connection ends and returns how.
func (c *screen) end() (websocket.StatusCode, error) {
	for {
		if err := c.read(); err != nil {
			return websocket.CloseStatus(err), err
		}
	}
}

func (c *screen) types(text string) {
	c.t.Helper()
	if err := c.ws.Write(c.ctx, websocket.MessageBinary, append([]byte{0}, text...)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *screen) says(msg string) {
	c.t.Helper()
	if err := c.ws.Write(c.ctx, websocket.MessageText, []byte(msg)); err != nil {
		c.t.Fatal(err)
	}
}

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

// again dials as soon as the place is free.
func (s *sandbox) again(path, query string) *screen {
	s.t.Helper()
	for range 3000 {
		if a := s.do("GET", path+"/ws", nil); a.StatusCode != 409 {
			return s.dial(path, query)
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatal("the place is never free")
	return nil
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
