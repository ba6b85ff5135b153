package agentrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/httpx"
	"opensandbox/libs/node"
	"opensandbox/libs/telemetry"
)

// Nodes is where the addresses of agents are found.
type Nodes interface {
	Nodes(ctx context.Context) ([]node.Node, error)
}

// Times and bounds of calls.
const (
	// Timeout bounds a call. The agent gives the engine longer, but somebody waits for the answer.
	Timeout = 10 * time.Second
	// dialTimeout is short because a node that has gone does not refuse, it says nothing.
	dialTimeout = 2 * time.Second
	maxAnswer   = 1 << 20
	retryAfter  = time.Second
)

// Client asks the agents of all nodes. It is a LiveReader.
type Client struct {
	nodes  Nodes
	signer signer
	http   *http.Client
	clock  func() time.Time
}

var _ LiveReader = (*Client)(nil)

// NewClient returns a client that finds agents in nodes and signs with the shared secret. Close frees its connections.
func NewClient(nodes Nodes, secret string) (*Client, error) {
	s, err := newSigner(secret)
	if err != nil {
		return nil, err
	}
	return &Client{nodes: nodes, signer: s, clock: time.Now, http: &http.Client{
		Timeout: Timeout,
		// No proxy, and nothing is followed: only the agent itself can answer.
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close frees the connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Logs implements LiveReader.
func (c *Client) Logs(ctx context.Context, r Ref, n int) ([]string, error) {
	var a logsAnswer
	err := c.get(ctx, r, "logs", url.Values{"tail": {strconv.Itoa(n)}}, &a)
	return a.Lines, err
}

// Inspect implements LiveReader.
func (c *Client) Inspect(ctx context.Context, r Ref) (Inspection, error) {
	var a Inspection
	err := c.get(ctx, r, "inspect", url.Values{}, &a)
	return a, err
}

// Events implements LiveReader.
func (c *Client) Events(ctx context.Context, r Ref, n int) ([]Event, error) {
	var a eventsAnswer
	err := c.get(ctx, r, "events", url.Values{"limit": {strconv.Itoa(n)}}, &a)
	return a.Events, err
}

// address returns where the agent of a node listens.
func (c *Client) address(ctx context.Context, name string) (string, error) {
	all, err := c.nodes.Nodes(ctx)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(all, func(n node.Node) bool { return n.Name == name })
	if i < 0 || all[i].Address == "" {
		return "", unreachable(fmt.Errorf("node %q has told no address", name))
	}
	return all[i].Address, nil
}

func (c *Client) get(ctx context.Context, r Ref, what string, q url.Values, into any) error {
	if r.Node == "" {
		return fault.New(fault.NotFound, "the sandbox is on no node").About(string(r.ID))
	}
	address, err := c.address(ctx, r.Node)
	if err != nil {
		return err
	}
	q.Set("epoch", strconv.FormatUint(r.Epoch, 10))
	target := "http://" + address + "/internal/v1/sandboxes/" + url.PathEscape(string(r.ID)) + "/" + what + "?" + q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return unreachable(err)
	}
	c.signer.sign(req, r.Node, c.clock())
	if parent := telemetry.Inject(ctx); parent != "" {
		req.Header.Set("Traceparent", parent)
	}
	if id := httpx.RequestID(ctx); id != "" {
		req.Header.Set(httpx.RequestIDHeader, id)
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return unreachable(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return unreachable(fmt.Errorf("read the answer of %s: %w", address, err))
	case len(body) > maxAnswer:
		return fmt.Errorf("the answer of agent %s to %s exceeds %d bytes", address, what, maxAnswer)
	case res.StatusCode != http.StatusOK:
		return refused(r, res.StatusCode, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the answer of agent %s to %s cannot be read: %w", address, what, err)
	}
	return nil
}

// unreachable is the error for an agent that could not be asked.
func unreachable(err error) error {
	return fault.New(fault.Unavailable, "the node of the sandbox does not answer").RetryAfter(retryAfter).Because(err)
}

// refused is the error that an agent's answer stands for. What only we can have done wrong is ours.
func refused(r Ref, status int, body []byte) error {
	var e struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		e.Message = ""
	}
	cause := fmt.Errorf("the agent of node %q answered %d %s: %s", r.Node, status, e.Code, e.Message)
	switch status {
	case http.StatusNotFound:
		if e.Message != "" {
			return fault.New(fault.NotFound, e.Message).WithCode(e.Code).About(string(r.ID)).Because(cause)
		}
	case http.StatusNotImplemented:
		return fault.New(fault.Unsupported, "the runtime of this sandbox cannot do that").Because(cause)
	case http.StatusUnauthorized:
		return errors.Join(cause, errors.New("is internal.shared_secret the same for api and agent, and are their clocks in step?"))
	case http.StatusServiceUnavailable:
		if e.Message != "" {
			return fault.New(fault.Unavailable, e.Message).RetryAfter(retryAfter).Because(cause)
		}
		return unreachable(cause)
	}
	return cause
}
