package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/terminal"
)

// The times are those of OpenSandbox 1.1.1.
const (
	wsPing    = 30 * time.Second
	wsSilence = 60 * time.Second
	wsWrite   = 10 * time.Second

	// wsMessage bounds one message of a client, in bytes.
	wsMessage = 1 << 20
	// wsTakenOver is the close code for a holder whose place another client took, as in OpenSandbox 1.1.1.
	wsTakenOver websocket.StatusCode = 4001
	// wsOffences is how often a viewer may try to write before it is sent away.
	wsOffences = 5
)

// connection is one client of a terminal.
type connection struct {
	ws       *websocket.Conn
	client   *terminal.Client
	heard    atomic.Int64 // When the client last sent something, in Unix nanoseconds.
	waits    atomic.Bool  // Its input waits for the process.
	offences int
	failed   atomic.Bool // Nothing more can be sent.
}

func wantsWebSocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// serveTerminal upgrades the request and lives as long as the connection.
func (a *API) serveTerminal(w http.ResponseWriter, r *http.Request, id string, o terminal.Options) {
	// Whoever has the token may come from any page, as in OpenSandbox 1.1.1.
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // It has answered.
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(wsMessage)
	c := &connection{ws: ws}
	client, err := a.cfg.Terminals.Attach(id, o)
	if err != nil {
		c.problem(fault.CodeOf(err), fault.TextOf(err))
		_ = ws.Close(websocket.StatusInternalError, "not attached")
		return
	}
	defer client.Detach()
	c.client = client
	c.heard.Store(time.Now().UnixNano())
	// The request's own context does not end with a connection that was taken from net/http.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	var others sync.WaitGroup
	others.Go(func() {
		c.send(ctx, id)
		_ = ws.CloseNow() // Ends the reading below.
	})
	others.Go(func() { c.keepAlive(ctx) })
	c.receive(ctx)
	cancel()
	others.Wait()
}

// send passes output on until the end of the connection, and says how it ended.
func (c *connection) send(ctx context.Context, id string) {
	if f, ok := c.client.Replay(); ok {
		c.frame(f)
	}
	c.text(map[string]string{"type": "connected", "session_id": id, "mode": c.client.Mode(), "role": c.client.Role()})
	for {
		f, end, ok := c.client.Next(ctx)
		if ok {
			c.frame(f)
			if c.failed.Load() {
				return
			}
			continue
		}
		switch end.Why {
		case terminal.Exited:
			c.text(map[string]any{"type": "exit", "exit_code": end.Code})
			_ = c.ws.Close(websocket.StatusNormalClosure, "process exited")
		case terminal.TakenOver:
			_ = c.ws.Close(wsTakenOver, "TAKEN_OVER")
		case terminal.InputFailed:
			c.problem("STDIN_WRITE_FAILED", end.Err.Error())
			_ = c.ws.Close(websocket.StatusInternalError, "input failed")
		case terminal.Closing:
			_ = c.ws.CloseNow()
		}
		return
	}
}

// receive obeys the client until the connection ends.
func (c *connection) receive(ctx context.Context) {
	for {
		kind, b, err := c.ws.Read(ctx)
		if err != nil {
			return
		}
		c.heard.Store(time.Now().UnixNano())
		msg := terminal.ParseBinary(b)
		if kind == websocket.MessageText {
			msg = terminal.ParseText(b)
		}
		if !c.obey(msg) {
			return
		}
	}
}

// obey does what a message asks for and reports whether the connection goes on.
func (c *connection) obey(msg terminal.Message) bool {
	switch msg.Request {
	case terminal.Ping:
		c.text(map[string]string{"type": "pong"})
		return true
	case terminal.Unknown:
		c.problem("INVALID_FRAME", "unknown type: "+msg.Type)
		return true
	case terminal.Nothing:
		return true
	}
	if c.client.Role() == "viewer" {
		c.problem("READ_ONLY", "a viewer only reads")
		c.offences++
		if c.offences < wsOffences {
			return true
		}
		_ = c.ws.Close(websocket.StatusPolicyViolation, "READ_ONLY")
		return false
	}
	// A client that lost its place or its process learns of it from the other direction.
	switch msg.Request {
	case terminal.Input:
		c.waits.Store(true)
		_ = c.client.Input(msg.Data)
		c.heard.Store(time.Now().UnixNano())
		c.waits.Store(false)
	case terminal.Resize:
		_ = c.client.Resize(msg.Cols, msg.Rows)
	case terminal.Signal:
		_ = c.client.Signal(msg.Signal)
	}
	return true
}

// keepAlive asks for a sign of life and gives a silent connection up.
func (c *connection) keepAlive(ctx context.Context) {
	t := time.NewTicker(wsPing)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		pinged, cancel := context.WithTimeout(ctx, wsPing)
		err := c.ws.Ping(pinged)
		cancel()
		if c.silent(err, time.Now()) {
			_ = c.ws.CloseNow()
			return
		}
	}
}

// silent reports whether a client is to be given up after a ping with this result. One whose input waits for a process that does not read is not
// read either, so that its answer cannot be heard: it is given up only when it cannot be reached.
func (c *connection) silent(ping error, now time.Time) bool {
	switch {
	case ping == nil:
		return false
	case c.waits.Load():
		return !errors.Is(ping, context.DeadlineExceeded)
	default:
		return now.Sub(time.Unix(0, c.heard.Load())) > wsSilence
	}
}

func (c *connection) frame(f terminal.Frame) { c.write(websocket.MessageBinary, f.Encode()) }

func (c *connection) text(v any) {
	b, err := json.Marshal(v)
	if err == nil {
		c.write(websocket.MessageText, b)
	}
}

func (c *connection) problem(code, text string) {
	c.text(map[string]string{"type": "error", "error": text, "code": code})
}

// write sends one message. A client that does not take it in time is given up.
func (c *connection) write(kind websocket.MessageType, b []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), wsWrite)
	defer cancel()
	if c.ws.Write(ctx, kind, b) != nil {
		c.failed.Store(true)
	}
}
