package httpapi

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
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
