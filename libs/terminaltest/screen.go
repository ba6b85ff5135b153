// Package terminaltest has a client of the terminals that the daemon in a sandbox offers over WebSocket. It is imported by tests only.
package terminaltest

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

// long bounds how long a client may be there.
const long = 60 * time.Second

// The first byte of a frame says what it has; that of a replay is followed by the offset of its first byte.
const (
	input        = 0
	replay       = 3
	replayHeader = 9
)

// Screen is a client of a terminal, and what it has seen.
type Screen struct {
	t   testing.TB
	ctx context.Context
	ws  *websocket.Conn
	// First is the offset of the first replayed byte, -1 without a replay.
	First int64
	// Connected and Exit are the frames of these names.
	Connected, Exit map[string]any
	// Kinds are the first bytes of the frames with output; Out is their text, in which <pong> stands for the frame of that name.
	Kinds map[byte][]byte
	Out   []byte
	// Errors are the codes of error frames.
	Errors []string
	// searched is how much of Out Sees has looked through.
	searched int
}

// Dial connects to a terminal by its address, which begins with http, until the end of the test. The client has seen everything up to "connected".
func Dial(t testing.TB, url string, header http.Header) *Screen {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	t.Cleanup(cancel)
	ws, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(url, "http"), &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatalf("attach to %s: %v", url, err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(4 << 20)
	c := &Screen{t: t, ctx: ctx, ws: ws, First: -1, Kinds: map[byte][]byte{}}
	for c.Connected == nil {
		if err := c.Read(); err != nil {
			t.Fatalf("attach to %s: %v", url, err)
		}
	}
	return c
}

// Read takes one frame.
func (c *Screen) Read() error {
	kind, b, err := c.ws.Read(c.ctx)
	if err != nil {
		return err
	}
	if kind == websocket.MessageBinary {
		data := b[1:]
		if b[0] == replay {
			if c.First < 0 {
				c.First = int64(binary.BigEndian.Uint64(b[1:]))
			}
			data = b[replayHeader:]
		}
		c.Kinds[b[0]] = append(c.Kinds[b[0]], data...)
		c.Out = append(c.Out, data...)
		return nil
	}
	var msg map[string]any
	if err := json.Unmarshal(b, &msg); err != nil {
		return fmt.Errorf("frame %q: %w", b, err)
	}
	switch msg["type"] {
	case "connected":
		c.Connected = msg
	case "exit":
		c.Exit = msg
	case "error":
		c.Errors = append(c.Errors, msg["code"].(string))
	case "pong":
		c.Out = append(c.Out, "<pong>"...)
	}
	return nil
}

// Sees reads until the output holds a text.
func (c *Screen) Sees(want string) {
	c.t.Helper()
	for !bytes.Contains(c.Out[max(0, c.searched-len(want)):], []byte(want)) {
		c.searched = len(c.Out)
		if err := c.Read(); err != nil {
			c.t.Fatalf("never saw %q but %q and %v: %v", want, c.Out[max(0, len(c.Out)-500):], c.Errors, err)
		}
	}
	c.searched = 0
}

// End reads until the connection ends and returns how.
func (c *Screen) End() (websocket.StatusCode, error) {
	for {
		if err := c.Read(); err != nil {
			return websocket.CloseStatus(err), err
		}
	}
}

// Types sends input of the process.
func (c *Screen) Types(text string) {
	c.t.Helper()
	if err := c.ws.Write(c.ctx, websocket.MessageBinary, append([]byte{input}, text...)); err != nil {
		c.t.Fatal(err)
	}
}

// Says sends a control frame, which is JSON unless a test wants it otherwise.
func (c *Screen) Says(msg string) {
	c.t.Helper()
	if err := c.ws.Write(c.ctx, websocket.MessageText, []byte(msg)); err != nil {
		c.t.Fatal(err)
	}
}

// Close leaves in order.
func (c *Screen) Close() {
	c.t.Helper()
	if err := c.ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		c.t.Fatal(err)
	}
}
