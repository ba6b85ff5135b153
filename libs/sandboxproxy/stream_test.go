package sandboxproxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandboxproxy"
)

// Each event arrives although the application waits before it sends the next.
func TestEventStream(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	for _, kind := range []string{"text/event-stream", "application/octet-stream"} {
		app := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			for range 3 {
				_, _ = io.WriteString(w, "data: x\n")
				_ = http.NewResponseController(w).Flush()
				<-next
			}
		})
		res := start(t, sandboxproxy.Config{}, at(direct(app))).do(t, "GET", "/sb/8/", nil)
		lines := bufio.NewReader(res.Body)
		for range 3 {
			if line, err := lines.ReadString('\n'); err != nil || line != "data: x\n" {
				t.Fatalf("%s: %q, %v", kind, line, err)
			}
			next <- struct{}{}
		}
		if _, err := lines.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v at the end", kind, err)
		}
	}
}

// The application answers each line before the client sends the next: nothing is kept back in either direction.
func TestBothDirectionsAtOnce(t *testing.T) {
	t.Parallel()
	app := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		_ = rc.Flush()
		lines := bufio.NewReader(r.Body)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(w, "got "+line)
			_ = rc.Flush()
		}
	})
	body, send := io.Pipe()
	res := start(t, sandboxproxy.Config{}, at(direct(app))).do(t, "POST", "/sb/8/", body)
	lines := bufio.NewReader(res.Body)
	for range 3 {
		if _, err := io.WriteString(send, "hello\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := lines.ReadString('\n'); err != nil || line != "got hello\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	_ = send.Close()
	if rest := read(t, lines); rest != "" {
		t.Errorf("%q at the end", rest)
	}
}

// What a client still sends after the answer has ended harms nothing, and an error does not wait for a body that is slow.
func TestAnswersBeforeTheBodyEnds(t *testing.T) {
	t.Parallel()
	app := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusUnauthorized)
	})
	for name, c := range map[string]struct {
		d      *directory
		status int
	}{
		"answer":       {at(direct(app)), http.StatusUnauthorized},
		"nobody there": {at(dead(t)), http.StatusBadGateway},
		"no route":     {&directory{answers: []answer{{err: fault.New(fault.NotFound, "x")}}}, http.StatusNotFound},
	} {
		r := start(t, sandboxproxy.Config{}, c.d)
		for range 3 {
			body, send := io.Pipe()
			res := r.do(t, "POST", "/sb/8/", body)
			if res.StatusCode != c.status || res.Header.Get("Date") == "" {
				t.Errorf("%s: %d, want %d", name, res.StatusCode, c.status)
			}
			_ = read(t, res.Body)
			_, _ = io.WriteString(send, "late\n")
			_ = send.Close()
		}
	}
}

// When the client goes away, so does the request to the application.
func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	app := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(ended)
	})
	res := start(t, sandboxproxy.Config{}, at(direct(app))).do(t, "GET", "/sb/8/", nil)
	_ = res.Body.Close()
	<-ended
}

// An answer that breaks off must not look complete.
func TestAnswerBreaksOff(t *testing.T) {
	t.Parallel()
	app := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	res := start(t, sandboxproxy.Config{}, at(direct(app))).do(t, "GET", "/sb/8/", nil)
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("%q came as a complete answer", b)
	}
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	app := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			http.Error(w, "no entry", http.StatusForbidden)
			return
		}
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"b"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		c.SetReadLimit(-1)
		ctx := context.WithoutCancel(r.Context()) // the request's own ends with the hijack
		for {
			kind, data, err := c.Read(ctx)
			if err != nil {
				return
			}
			if string(data) == "bye" {
				_ = c.Close(4321, "as you wish")
				return
			}
			if err := c.Write(ctx, kind, append([]byte(r.Header.Get("Authorization")+r.URL.RawQuery+" "), data...)); err != nil {
				return
			}
		}
	})
	r := start(t, sandboxproxy.Config{}, at(direct(app)))
	url := "ws" + strings.TrimPrefix(r.URL, "http")
	opts := &websocket.DialOptions{
		HTTPClient: r.client, Subprotocols: []string{"a", "b"},
		HTTPHeader: http.Header{"Authorization": {"Bearer t"}, "Origin": {"http://elsewhere.example"}},
	}
	c, _, err := websocket.Dial(t.Context(), url+"/sb/8/ws?q=1", opts)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	if c.Subprotocol() != "b" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	big := strings.Repeat("x", 1<<20)
	for _, m := range []struct {
		kind websocket.MessageType
		text string
	}{{websocket.MessageText, "hello"}, {websocket.MessageBinary, "\x00\xff"}, {websocket.MessageText, big}} {
		if err := c.Write(t.Context(), m.kind, []byte(m.text)); err != nil {
			t.Fatal(err)
		}
		kind, got, err := c.Read(t.Context())
		if err != nil || kind != m.kind || string(got) != "Bearer tq=1 "+m.text {
			t.Fatalf("%v, %d bytes, %v", kind, len(got), err)
		}
	}
	if err := c.Write(t.Context(), websocket.MessageText, []byte("bye")); err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Read(t.Context())
	if websocket.CloseStatus(err) != 4321 || !strings.Contains(err.Error(), "as you wish") {
		t.Errorf("closed with %v", err)
	}

	_, res, err := websocket.Dial(t.Context(), url+"/sb/8/refused", opts)
	if err == nil || res == nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("refused: %v, %v", res, err)
	}
	never := start(t, sandboxproxy.Config{}, at(dead(t)))
	opts.HTTPClient = never.client
	_, res, err = websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(never.URL, "http")+"/sb/8/ws", opts)
	if err == nil || res == nil || res.StatusCode != http.StatusBadGateway {
		t.Errorf("nobody there: %v, %v", res, err)
	}
}

// Upgrades other than WebSocket, and other spellings of the Connection header, go through as well.
func TestOtherUpgrades(t *testing.T) {
	t.Parallel()
	app := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
		line, _ := rw.ReadString('\n')
		_, _ = io.WriteString(c, "echo "+line)
	})
	r := start(t, sandboxproxy.Config{}, at(direct(app)))
	c, err := net.Dial("tcp", strings.TrimPrefix(r.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /sb/8/ HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, upgrade\r\nUpgrade: chat/1\r\n\r\n")
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "chat/1" {
		t.Fatalf("%v, %v", res, err)
	}
	_, _ = io.WriteString(c, "hi\n")
	if line, err := in.ReadString('\n'); line != "echo hi\n" {
		t.Errorf("%q, %v", line, err)
	}
}
