//go:build e2e

package acceptance

import (
	"net/http"
	"testing"

	"github.com/coder/websocket"

	"opensandbox/libs/terminaltest"
)

// terminal makes a terminal and returns its path.
func (d daemon) terminal(body any) string {
	d.t.Helper()
	a := d.call("POST", "/pty", body)
	id, _ := a.json(d.t)["session_id"].(string)
	if a.status != http.StatusCreated || id == "" {
		d.t.Fatalf("create a terminal: %v", a)
	}
	return "/pty/" + id
}

// attach connects to a terminal.
func (d daemon) attach(path, query string) *terminaltest.Screen {
	d.t.Helper()
	header := http.Header{}
	for i := 0; i+1 < len(d.header); i += 2 {
		header.Set(d.header[i], d.header[i+1])
	}
	return terminaltest.Dial(d.t, d.url+path+"/ws"+query, header)
}

func TestTerminals(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, d daemon, used, user string) {
		path := d.terminal(m{"cwd": "/tmp/terminals-" + user})
		c := d.attach(path, "")
		if text := c.Connected; text["mode"] != "pty" || text["role"] != "holder" {
			t.Errorf("connected: %v", text)
		}
		c.Types("echo user-$(id -u) in-$PWD\n")
		c.Sees("user-" + user + " in-/tmp/terminals-" + user)
		c.Says(`{"type":"resize","cols":101,"rows":33}`)
		c.Types("stty size; echo kept-$((40+2))\n")
		c.Sees("33 101")
		c.Sees("kept-42")
		c.Types("sh -c 'echo runs-$((1+1)); exec sleep 1000'\n")
		c.Sees("runs-2")
		c.Types("\x03")
		viewer := d.attach(path, "?mode=viewer")
		viewer.Sees("kept-42")
		viewer.Types("exit\n")
		for viewer.Errors == nil {
			if err := viewer.Read(); err != nil {
				t.Fatal(err)
			}
		}
		if code := viewer.Errors[0]; code != "READ_ONLY" {
			t.Errorf("a viewer that writes: %v", code)
		}
		wantEnvelope(t, "a second holder", d.call("GET", path+"/ws", nil), 409)
		taker := d.attach(path, "?takeover=1&since=0")
		taker.Sees("kept-42")
		if code, err := c.End(); code != 4001 {
			t.Errorf("the holder before: %v", err)
		}
		taker.Types("exit 9\n")
		if code, err := taker.End(); code != websocket.StatusNormalClosure || taker.Exit["exit_code"] != 9.0 {
			t.Errorf("the end: %v %v", taker.Exit, err)
		}
		if code, err := viewer.End(); code != websocket.StatusNormalClosure {
			t.Errorf("the end of the viewer: %v", err)
		}
		if a := d.call("GET", path, nil); a.status != 200 || a.json(t)["running"] != false || a.json(t)["output_offset"].(float64) == 0 {
			t.Errorf("status: %v", a)
		}
		if a := d.call("DELETE", path, nil); a.status != 200 || a.header.Get("Content-Length") != "0" {
			t.Errorf("delete: %v", a)
		}
		wantEnvelope(t, "a second delete", d.call("DELETE", path, nil), 404)
		pipes := d.attach(d.terminal(m{"command": "[ -t 0 ] || echo no terminal; read x; echo $x >&2; exit 3"}), "?pty=0")
		pipes.Sees("no terminal\n")
		pipes.Types("typed\n")
		pipes.Sees("typed\n")
		if _, err := pipes.End(); pipes.Exit["exit_code"] != 3.0 || pipes.Connected["mode"] != "pipe" {
			t.Errorf("on pipes: %v %v %v", pipes.Connected, pipes.Exit, err)
		}
	})
}

func TestTerminalsNeedAShell(t *testing.T) {
	t.Parallel()
	needsAShell(t, "/pty")
}
