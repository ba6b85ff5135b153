//go:build e2e

package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// screen is a client of a terminal in a sandbox.
type screen struct {
	t   *testing.T
	ctx context.Context
	ws  *websocket.Conn
	out []byte
	// texts are the control frames by their type, the last of each.
	texts map[string]m
}

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
func (d daemon) attach(path, query string) *screen {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	d.t.Cleanup(cancel)
	header := http.Header{}
	for i := 0; i+1 < len(d.header); i += 2 {
		header.Set(d.header[i], d.header[i+1])
	}
	ws, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(d.url, "http")+path+"/ws"+query, &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		d.t.Fatalf("attach to %s%s: %v", path, query, err)
	}
	d.t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(4 << 20)
	c := &screen{t: d.t, ctx: ctx, ws: ws, texts: map[string]m{}}
	for c.texts["connected"] == nil {
		if err := c.read(); err != nil {
			d.t.Fatalf("attach to %s%s: %v", path, query, err)
		}
	}
	return c
}

func (c *screen) read() error {
	kind, b, err := c.ws.Read(c.ctx)
	switch {
	case err != nil:
		return err
	case kind == websocket.MessageText:
		var text m
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
		c.texts[text["type"].(string)] = text
	case b[0] == 3: // a replay, with its offset
		c.out = append(c.out, b[9:]...)
	default:
		c.out = append(c.out, b[1:]...)
	}
	return nil
}

func (c *screen) sees(want string) {
	c.t.Helper()
	for !bytes.Contains(c.out, []byte(want)) {
		if err := c.read(); err != nil {
			c.t.Fatalf("never saw %q but %q and %v: %v", want, c.out, c.texts, err)
		}
	}
}

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

func (c *screen) says(text string) {
	c.t.Helper()
	if err := c.ws.Write(c.ctx, websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func TestTerminals(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, d daemon, used, user string) {
		path := d.terminal(m{"cwd": "/tmp/terminals-" + user})
		c := d.attach(path, "")
		if text := c.texts["connected"]; text["mode"] != "pty" || text["role"] != "holder" {
			t.Errorf("connected: %v", text)
		}
		c.types("echo user-$(id -u) in-$PWD\n")
		c.sees("user-" + user + " in-/tmp/terminals-" + user)
		c.says(`{"type":"resize","cols":101,"rows":33}`)
		c.types("stty size; echo kept-$((40+2))\n")
		c.sees("33 101")
		c.sees("kept-42")
		c.types("sh -c 'echo runs-$((1+1)); exec sleep 1000'\n")
		c.sees("runs-2")
		c.types("\x03")
		viewer := d.attach(path, "?mode=viewer")
		viewer.sees("kept-42")
		viewer.types("exit\n")
		for viewer.texts["error"] == nil {
			if err := viewer.read(); err != nil {
				t.Fatal(err)
			}
		}
		if code := viewer.texts["error"]["code"]; code != "READ_ONLY" {
			t.Errorf("a viewer that writes: %v", code)
		}
		wantEnvelope(t, "a second holder", d.call("GET", path+"/ws", nil), 409)
		taker := d.attach(path, "?takeover=1&since=0")
		taker.sees("kept-42")
		if code, err := c.end(); code != 4001 {
			t.Errorf("the holder before: %v", err)
		}
		taker.types("exit 9\n")
		if code, err := taker.end(); code != websocket.StatusNormalClosure || taker.texts["exit"]["exit_code"] != 9.0 {
			t.Errorf("the end: %v %v", taker.texts["exit"], err)
		}
		if code, err := viewer.end(); code != websocket.StatusNormalClosure {
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
		pipes.sees("no terminal\n")
		pipes.types("typed\n")
		pipes.sees("typed\n")
		if _, err := pipes.end(); pipes.texts["exit"]["exit_code"] != 3.0 || pipes.texts["connected"]["mode"] != "pipe" {
			t.Errorf("on pipes: %v %v", pipes.texts, err)
		}
	})
}

func TestTerminalsNeedAShell(t *testing.T) {
	t.Parallel()
	needsAShell(t, "/pty")
}
