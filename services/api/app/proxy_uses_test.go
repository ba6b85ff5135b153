package app

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

func TestProxyWebSocket(t *testing.T) {
	t.Parallel()
	p := newProxied(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"b"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if string(b) == "bye" {
				_ = c.Close(4001, "over")
				return
			}
			_ = c.Write(r.Context(), kind, b)
		}
	}), nil)
	dial := func(path string) *websocket.Conn {
		t.Helper()
		c, res, err := websocket.Dial(t.Context(), p.server.URL+strings.ReplaceAll(path, "ID", string(p.id)), &websocket.DialOptions{Subprotocols: []string{"a", "b"}})
		if err != nil {
			t.Fatalf("%s: %v %v", path, err, res)
		}
		t.Cleanup(func() { _ = c.CloseNow() })
		return c
	}
	c := dial("/v1/sandboxes/ID/proxy/8080/ws")
	if c.Subprotocol() != "b" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
		if err := c.Write(t.Context(), kind, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if got, b, err := c.Read(t.Context()); err != nil || got != kind || string(b) != "hello" {
			t.Fatalf("%v %q %v", got, b, err)
		}
	}
	_ = c.Write(t.Context(), websocket.MessageText, []byte("bye"))
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != 4001 || !strings.Contains(err.Error(), "over") {
		t.Errorf("the application's close became %v", err)
	}
	for path, want := range map[string]websocket.StatusCode{
		"/v1/sandboxes/ID/proxy/8080/no":     websocket.StatusPolicyViolation,
		"/v1/sandboxes/nobody/proxy/8080/ws": websocket.StatusInternalError,
		"/v1/sandboxes/ID/proxy/70000/ws":    websocket.StatusInternalError,
	} {
		if _, _, err := dial(path).Read(t.Context()); websocket.CloseStatus(err) != want {
			t.Errorf("%s: %v, want %d", path, err, want)
		}
	}
	if res, body := p.request("POST", "/v1/sandboxes/ID/proxy/8080/ws", "Connection", "Upgrade", "Upgrade", "WebSocket"); res.StatusCode != 400 || codeOf(body) != "GENERAL::UNKNOWN_ERROR" {
		t.Errorf("a WebSocket with POST: %d %s", res.StatusCode, body)
	}
}

// publisher keeps the notices.
type publisher struct{ got chan string }

func (p publisher) Publish(_ context.Context, b []byte) error {
	p.got <- string(b)
	return nil
}

// A use is told once it has an address, unless it says that it is none.
func TestProxyRenews(t *testing.T) {
	t.Parallel()
	notices := publisher{make(chan string, 8)}
	app := backend(t, func(http.ResponseWriter, *http.Request) {})
	_, port, _ := net.SplitHostPort(app)
	b := newBench(t, nil)
	api, err := New(t.Context(), Config{Address: "127.0.0.1:0", Grace: time.Second, Version: "1"},
		Deps{Store: b.ready, Registry: newRegistry(), Log: b.logger(), Renewals: notices, Token: func(sandbox.ID, uint64) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx) }()
	b.register(node.Registration{Name: "here", EngineID: "e2", PortMin: 40000, PortMax: 40100, Host: "127.0.0.1"})
	p := &proxied{bench: b, id: b.pending()}
	number, _ := net.LookupPort("tcp", port)
	p.place(sandbox.Addresses{Ports: map[int]int{ExecdPort: number, AppPort: number}})
	p.server = &httptest.Server{URL: "http://" + api.Addr().String()}
	p.request("GET", "/v1/sandboxes/ID/proxy/8080/not-a-use", "OpenSandbox-Access-Renew", "skip")
	p.request("GET", "/v1/sandboxes/nobody/proxy/8080/unknown")
	p.request("GET", "/v1/sandboxes/ID/proxy/8080/a?secret", "OpenSandbox-Access-Renew", "Skip")
	var n struct {
		ID   string `json:"sandbox_id"`
		Port int    `json:"port"`
		URI  string `json:"request_uri"`
	}
	if err := json.Unmarshal([]byte(<-notices.got), &n); err != nil || n.ID != string(p.id) || n.Port != 8080 || n.URI != "/a" {
		t.Errorf("notice %+v, %v", n, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(notices.got) > 0 {
		t.Errorf("another notice: %s", <-notices.got)
	}
}

func TestEndpointThroughTheServer(t *testing.T) {
	t.Parallel()
	for external, want := range map[string]string{
		"": "client.example:81/v1", "https://sandboxes.example/base/": "sandboxes.example/base", " sandboxes.example ": "sandboxes.example",
	} {
		p := newProxied(t, "127.0.0.1:1", func(c *Config, _ *Deps) { c.Proxy.External = external })
		for prefix, base := range map[string]string{"/v1": want, "": strings.TrimSuffix(want, "/v1"), "//v1/v1": want} {
			for port, headers := range map[string]map[string]string{"44772": {"X-EXECD-ACCESS-TOKEN": token}, "8080": nil, "18080": nil} {
				r := httptest.NewRequestWithContext(t.Context(), "GET", "http://client.example:81"+prefix+"/sandboxes/"+string(p.id)+"/endpoints/"+port+"?use_server_proxy=true", nil)
				r.Header.Set("OPEN-SANDBOX-API-KEY", apiKey)
				w := httptest.NewRecorder()
				p.handler.ServeHTTP(w, r)
				var e struct {
					Endpoint string
					Headers  map[string]string
				}
				if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != 200 || e.Endpoint != base+"/sandboxes/"+string(p.id)+"/proxy/"+port {
					t.Errorf("%q %s: %d %s", external, prefix, w.Code, w.Body)
				}
				if diff := cmp.Diff(headers, e.Headers); diff != "" {
					t.Errorf("headers of %s:\n%s", port, diff)
				}
			}
		}
	}
}
