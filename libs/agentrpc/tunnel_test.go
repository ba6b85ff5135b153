package agentrpc_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"opensandbox/libs/agentrpc"
	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/secrettest"
)

// ports is a node with one sandbox, whose port 7 is that of a listener.
type ports struct {
	agentrpc.LiveReader
	echo string
}

func (p ports) DialPort(ctx context.Context, r agentrpc.Ref, port int) (net.Conn, error) {
	if r.ID != "s" || r.Epoch != 2 {
		return nil, fault.New(fault.NotFound, "no such sandbox")
	}
	address := p.echo
	if port != 7 {
		address = "127.0.0.1:1" // nothing listens there
	}
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

type registry []node.Node

func (r registry) Nodes(context.Context) ([]node.Node, error) { return r, nil }

func TestTunnel(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { // says hello, then sends back what it gets until that ends
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello ")
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	h, err := agentrpc.NewHandler(agentrpc.ServerConfig{Node: "n", Secret: secret, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}, ports{echo: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	nodes := registry{{Name: "n", Address: s.Listener.Addr().String()}}
	client := func(secret string) *agentrpc.Client {
		c, err := agentrpc.NewClient(nodes, secret)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	good := client(secret)
	conn, err := good.DialPort(t.Context(), agentrpc.Ref{Node: "n", ID: "s", Epoch: 2}, 7)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("0123456789", 100_000)
	go func() {
		_, _ = io.WriteString(conn, text)
		_ = conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello "+text {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	_ = conn.Close()
	for name, c := range map[string]struct {
		client *agentrpc.Client
		ref    agentrpc.Ref
		port   int
		want   string
	}{
		"nothing listens": {good, agentrpc.Ref{Node: "n", ID: "s", Epoch: 2}, 8, "dial tunnel"},
		"another epoch":   {good, agentrpc.Ref{Node: "n", ID: "s", Epoch: 1}, 7, "no such sandbox"},
		"another secret":  {client(secrettest.New("another shared secret")), agentrpc.Ref{Node: "n", ID: "s", Epoch: 2}, 7, "401"},
		"unknown node":    {good, agentrpc.Ref{Node: "m", ID: "s", Epoch: 2}, 7, "node"},
	} {
		if conn, err := c.client.DialPort(t.Context(), c.ref, c.port); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %q", name, conn, err, c.want)
		}
	}
	// At the end of the agent what is open is cut.
	if conn, err = good.DialPort(t.Context(), agentrpc.Ref{Node: "n", ID: "s", Epoch: 2}, 7); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if _, err := io.ReadAll(conn); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	_ = conn.Close()
}
