package sandboxproxy

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandboxproxy/resolve"
)

// Tunnels opens connections to ports that only the agent of a node can reach. A net.OpError whose Op is "dial" says that nothing was
// reached. It may be called concurrently.
type Tunnels interface {
	DialTunnel(ctx context.Context, t resolve.Tunnel) (net.Conn, error)
}

// tunnelMark begins the names by which the pool of connections knows tunnels: addresses of containers are the same on all nodes. No host
// has a name with an underscore in front.
const tunnelMark = "_tunnel."

// poolAddress returns the host:port by which connections to up are pooled.
func poolAddress(up resolve.Upstream) string {
	if up.Tunnel == nil {
		return up.Address
	}
	t := up.Tunnel
	return tunnelMark + strconv.FormatUint(t.Epoch, 10) + "." + string(t.ID) + "." + t.Node + ":" + strconv.Itoa(t.Port)
}

// parseTunnel reads what poolAddress writes for a tunnel. Ids have no dots; names of nodes may.
func parseTunnel(address string) (resolve.Tunnel, bool) {
	rest, ok := strings.CutPrefix(address, tunnelMark)
	if !ok {
		return resolve.Tunnel{}, false
	}
	i := strings.LastIndexByte(rest, ':')
	parts := strings.SplitN(rest[:max(i, 0)], ".", 3)
	if len(parts) != 3 {
		return resolve.Tunnel{}, false
	}
	epoch, epochErr := strconv.ParseUint(parts[0], 10, 64)
	port, portErr := strconv.Atoi(rest[i+1:])
	return resolve.Tunnel{Node: parts[2], ID: sandbox.ID(parts[1]), Epoch: epoch, Port: port}, epochErr == nil && portErr == nil
}

// dial connects to an address of the pool.
func (p *Proxy) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := p.connect(ctx, network, address)
	if err != nil || p.cfg.AnswerTimeout <= 0 {
		return conn, err
	}
	return &impatient{Conn: conn, limit: p.cfg.AnswerTimeout}, nil
}

func (p *Proxy) connect(ctx context.Context, network, address string) (net.Conn, error) {
	t, ok := parseTunnel(address)
	if !ok {
		return (&net.Dialer{Timeout: p.cfg.DialTimeout, KeepAlive: keepAlive}).DialContext(ctx, network, address)
	}
	if p.deps.Tunnels == nil {
		return nil, &net.OpError{Op: "dial", Net: "tunnel", Err: errors.New("there are no tunnels")}
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.DialTimeout)
	defer cancel()
	return p.deps.Tunnels.DialTunnel(ctx, t)
}

// impatient is a connection to an application that does not wait for ever until that reads.
type impatient struct {
	net.Conn
	limit time.Duration
}

// Write implements net.Conn.
func (c *impatient) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// CloseWrite passes on that the client of an upgraded connection sends nothing more.
func (c *impatient) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.New("the connection cannot be closed for one direction")
}
