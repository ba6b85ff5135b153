package app_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"opensandbox/services/ingress-router/app"
)

// socket is an application that echoes, and closes when it is told to. closed gets the end as the application saw it.
func socket(closed chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer c.CloseNow()
		ctx := context.WithoutCancel(r.Context()) // the request's own ends with the hijack
		for {
			kind, data, err := c.Read(ctx)
			if err != nil {
				closed <- err
				return
			}
			if string(data) == "bye" {
				closed <- c.Close(4321, "as you wish")
				return
			}
			if err := c.Write(ctx, kind, data); err != nil {
				closed <- err
				return
			}
		}
	}
}

func (r *running) dial(t *testing.T, path string) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(r.url, "http")+path, &websocket.DialOptions{HTTPClient: r.client})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	closed := make(chan error, 1)
	r := routed(t, socket(closed), nil)
	c := r.dial(t, "/sb/8080/ws")
	for _, m := range []struct {
		kind websocket.MessageType
		text string
	}{{websocket.MessageText, "hello"}, {websocket.MessageBinary, "\x00\xff\x88\x02"}, {websocket.MessageText, strings.Repeat("x", 30000)}} {
		if err := c.Write(t.Context(), m.kind, []byte(m.text)); err != nil {
			t.Fatal(err)
		}
		if kind, got, err := c.Read(t.Context()); kind != m.kind || string(got) != m.text || err != nil {
			t.Fatalf("%v, %d bytes, %v", kind, len(got), err)
		}
	}
	if got := r.metric(t, "opensandbox_router_active_requests", "websocket"); got != 1 {
		t.Errorf("%v WebSockets are active", got)
	}
	if got := r.metric(t, "opensandbox_router_requests_total", "websocket", "proxied"); got != 1 {
		t.Errorf("%v WebSockets were counted", got)
	}
	if err := c.Write(t.Context(), websocket.MessageText, []byte("bye")); err != nil {
		t.Fatal(err)
	}
	_, _, err := c.Read(t.Context())
	if websocket.CloseStatus(err) != 4321 || !strings.Contains(err.Error(), "as you wish") {
		t.Errorf("the client saw %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("the application saw %v", err)
	}
	until(t, "no WebSocket is active", func() bool { return r.metric(t, "opensandbox_router_active_requests", "websocket") == 0 })
}

func TestWebSocketIsClosedByTheClient(t *testing.T) {
	t.Parallel()
	closed := make(chan error, 1)
	c := routed(t, socket(closed), nil).dial(t, "/sb/8080/ws")
	if err := c.Close(4000, "done here"); err != nil {
		t.Errorf("the client saw %v", err)
	}
	if err := <-closed; websocket.CloseStatus(err) != 4000 || !strings.Contains(err.Error(), "done here") {
		t.Errorf("the application saw %v", err)
	}
}

// A ping goes all the way to the application: it is the application that is alive, not the router.
func TestWebSocketPing(t *testing.T) {
	t.Parallel()
	pinged := make(chan string, 1)
	r := routed(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{OnPingReceived: func(_ context.Context, payload []byte) bool {
			pinged <- string(payload)
			return true
		}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		_, _, _ = c.Read(context.WithoutCancel(r.Context()))
	}, nil)
	c := r.dial(t, "/sb/8080/ws")
	ctx := c.CloseRead(t.Context())
	if err := c.Ping(ctx); err != nil {
		t.Errorf("ping: %v", err)
	}
	if got := <-pinged; got == "" {
		t.Error("the payload of the ping did not arrive")
	}
}

// At the end of the grace time both sides of a WebSocket learn that the router goes away. Before that it works.
func TestWebSocketGoesAwayWithTheRouter(t *testing.T) {
	t.Parallel()
	closed := make(chan error, 1)
	r := routed(t, socket(closed), func(c *app.Config, _ *app.Deps) { c.Grace = 500 * time.Millisecond })
	c := r.dial(t, "/sb/8080/ws")
	ended := make(chan struct{})
	go func() { defer close(ended); r.end() }()
	until(t, "the listener is closed", func() bool {
		conn, err := net.Dial("tcp", r.Addr().String())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	if err := c.Write(t.Context(), websocket.MessageText, []byte("still here")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(t.Context()); string(got) != "still here" || err != nil {
		t.Fatalf("within the grace time: %q, %v", got, err)
	}
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the client saw %v, want 1001", err)
	}
	if err := <-closed; websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the application saw %v, want 1001", err)
	}
	<-ended
}

// Ends that ignore that the router goes away do not hold it up.
func TestDeafWebSocketIsCut(t *testing.T) {
	t.Parallel()
	cut := make(chan error, 1)
	r := routed(t, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, err = io.Copy(io.Discard, c)
		cut <- err
	}, func(c *app.Config, _ *app.Deps) { c.Grace = 10 * time.Millisecond })
	c, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /sb/8080/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	until(t, "the WebSocket stands", func() bool { return r.metric(t, "opensandbox_router_requests_total", "websocket", "proxied") == 1 })
	r.end()
	<-cut
	answer, err := io.ReadAll(c)
	if !strings.HasSuffix(string(answer), "\r\n\r\n\x88\x02\x03\xe9") || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the client got %q, %v", answer, err)
	}
}
