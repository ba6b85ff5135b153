package agentrpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/kitx"
)

// Dialer is a LiveReader that also opens connections to ports inside sandboxes, whose addresses only the agent of their node can reach.
// fault.NotFound when the engine has nothing for the incarnation. An error that is not classified says that nothing listens there.
type Dialer interface {
	DialPort(ctx context.Context, r Ref, port int) (net.Conn, error)
}

// tunnelProtocol is what a connection becomes after the answer 101: the bytes of the port, in both directions.
const tunnelProtocol = "opensandbox-tunnel"

// maxPort is the highest port.
const maxPort = 65535

var _ Dialer = (*Client)(nil)

// DialPort implements Dialer. Every connection is one to the agent, which answers before the first byte whether the port could be reached.
func (c *Client) DialPort(ctx context.Context, r Ref, port int) (net.Conn, error) {
	address, err := c.address(ctx, r.Node)
	if err != nil {
		return nil, err
	}
	q := url.Values{"epoch": {strconv.FormatUint(r.Epoch, 10)}, "port": {strconv.Itoa(port)}}
	target := "http://" + address + "/internal/v1/sandboxes/" + url.PathEscape(string(r.ID)) + "/tunnel?" + q.Encode()
	req, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil {
		return nil, unreachable(err)
	}
	c.signer.sign(req, r.Node, c.clock())
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", tunnelProtocol)
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	tunnel, err := handshake(ctx, conn, req, r)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return tunnel, nil
}

// handshake asks for the tunnel, as long as ctx allows.
func handshake(ctx context.Context, conn net.Conn, req *http.Request, r Ref) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(Timeout))
	if err := req.Write(conn); err != nil {
		return nil, unreachable(err)
	}
	reader := bufio.NewReader(conn)
	res, err := http.ReadResponse(reader, req)
	if err != nil {
		return nil, unreachable(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		_ = res.Body.Close()
		if res.StatusCode == http.StatusBadGateway {
			return nil, &net.OpError{Op: "dial", Net: "tunnel", Err: errors.New("nothing answers on the port of the sandbox")}
		}
		return nil, refused(r, res.StatusCode, body)
	}
	if !stop() {
		return nil, ctx.Err()
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return &tunnelConn{Conn: conn, reader: reader}, nil
}

// tunnelConn reads what came behind the answer first.
type tunnelConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c *tunnelConn) Read(b []byte) (int, error) { return c.reader.Read(b) }

// CloseWrite says that nothing more is sent.
func (c *tunnelConn) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// tunnels are the connections that an agent relays. The zero value is ready.
type tunnels struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
	all    sync.WaitGroup
}

// add reports whether there may be another one. done must be called if so.
func (t *tunnels) add(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if t.open == nil {
		t.open = map[net.Conn]struct{}{}
	}
	t.open[c] = struct{}{}
	t.all.Add(1)
	return true
}

func (t *tunnels) done(c net.Conn) {
	t.mu.Lock()
	delete(t.open, c)
	t.mu.Unlock()
	_ = c.Close()
	t.all.Done()
}

func (t *tunnels) close() {
	t.mu.Lock()
	t.closed = true
	for c := range t.open {
		_ = c.Close()
	}
	t.mu.Unlock()
	t.all.Wait()
}

// tunnel serves one tunnel. It returns when the tunnel ends.
func (h *Handler) tunnel(d Dialer) http.HandlerFunc {
	decode := h.decode("port", maxPort, 0)
	return func(w http.ResponseWriter, r *http.Request) {
		want, err := decode(r.Context(), r)
		if err == nil && (want.n == 0 || r.Header.Get("Upgrade") != tunnelProtocol) {
			err = invalid("port", "expected a port, and the protocol "+tunnelProtocol)
		}
		if err != nil {
			kitx.WriteError(w, err)
			return
		}
		port, err := d.DialPort(r.Context(), want.ref, want.n)
		if classified, ok := errors.AsType[*fault.Error](err); ok {
			kitx.WriteError(w, classified)
			return
		}
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if !h.tunnels.add(port) {
			_ = port.Close()
			kitx.WriteError(w, fault.New(fault.Unavailable, "the agent is ending"))
			return
		}
		defer h.tunnels.done(port)
		h.relay(w, port)
	}
}

// relay takes the connection of the caller over and copies until both directions have ended.
func (h *Handler) relay(w http.ResponseWriter, port net.Conn) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		kitx.WriteError(w, fmt.Errorf("take the connection over: %w", err))
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+tunnelProtocol+"\r\n\r\n"); err != nil {
		return
	}
	early := make([]byte, rw.Reader.Buffered())
	_, _ = io.ReadFull(rw.Reader, early) // it is in memory
	if _, err := port.Write(early); err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, err := io.Copy(conn, port)
		_ = closeWrite(conn)
		if err != nil {
			_ = conn.Close() // the other direction has nowhere to go either
		}
	})
	if _, err := io.Copy(port, conn); err != nil {
		_ = port.Close()
	} else {
		_ = closeWrite(port)
	}
	back.Wait()
}

// Close ends all tunnels and waits for them. The listener must have ended.
func (h *Handler) Close() { h.tunnels.close() }
