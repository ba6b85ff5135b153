// Package jupyter runs code in the kernels of a Jupyter server: REST for sessions, a WebSocket for each execution. It knows nothing of
// contexts, languages' names aside, and nothing of the clients.
package jupyter

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/code"
	"opensandbox/services/execd/internal/sse"
)

const (
	// maxAnswer bounds the answers to REST calls, in bytes. Descriptions of kernels are the largest.
	maxAnswer = 4 << 20
	// maxReason bounds what of an error's text is shown, in bytes.
	maxReason = 500
	// startPoll is the time between two tries while nobody listens yet: the server may start together with the sandbox.
	startPoll = 200 * time.Millisecond
)

// Config says where the Jupyter server is.
type Config struct {
	// URL is the http or https URL of the server; a path is a prefix of all its paths.
	URL string
	// Token is sent in a header to this server only, and is in no error.
	Token string
	// Look is the time without a message after which the server is asked whether the kernel is still there. 0 means 15 s.
	Look time.Duration
	// MaxMessage bounds one message of a kernel, in bytes. 0 means 64 MiB.
	MaxMessage int64
}

// Client talks to one Jupyter server. It may be used concurrently.
type Client struct {
	cfg  Config
	base *url.URL
	http *http.Client

	ctx     context.Context
	cancel  context.CancelFunc
	workers sync.WaitGroup
}

var _ code.Kernels = (*Client)(nil)

// New returns a Client. It connects at the first use. The error says what is wrong with the URL.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.URL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, errors.New("the address of the Jupyter server must be an http:// or https:// URL")
	}
	if cfg.Look == 0 {
		cfg.Look = 15 * time.Second
	}
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = 64 << 20
	}
	base.User, base.RawQuery, base.Fragment = nil, "", ""
	ctx, cancel := context.WithCancel(context.Background())
	return &Client{cfg: cfg, base: base, ctx: ctx, cancel: cancel, http: &http.Client{
		// No proxy of the environment: the server is in this sandbox, and its token must not leave it.
		Transport: &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second},
		// Servers of older versions send those without the right token to a page.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close gives up what is on its way, waits for it, and frees idle connections. Nothing else may be called then.
func (c *Client) Close() {
	c.cancel()
	c.workers.Wait()
	c.http.CloseIdleConnections()
}

// LocalPort is the port of the server if it is in this sandbox, else 0.
func (c *Client) LocalPort() int {
	host := c.base.Hostname()
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback() && !ip.IsUnspecified()) {
		return 0
	}
	port, err := strconv.Atoi(cmp.Or(c.base.Port(), map[string]string{"http": "80", "https": "443"}[c.base.Scheme]))
	if err != nil {
		return 0
	}
	return port
}

// address returns the URL of a path of the API; segments are escaped.
func (c *Client) address(segments ...string) string {
	path := make([]string, len(segments))
	for i, s := range segments {
		path[i] = url.PathEscape(s)
	}
	return strings.TrimRight(c.base.String(), "/") + "/" + strings.Join(path, "/")
}

// answered is an answer that is no success.
type answered struct {
	status int
	err    *fault.Error
}

// Error implements error.
func (a *answered) Error() string { return a.err.Error() }

// Unwrap returns the classified error.
func (a *answered) Unwrap() error { return a.err }

// do makes one call and decodes the answer into out, unless that is nil. An answer that is no success is an *answered.
func (c *Client) do(ctx context.Context, method string, in, out any, segments ...string) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.address(segments...), body)
	if err != nil {
		return fmt.Errorf("request to the Jupyter server: %w", err)
	}
	req.Header = c.header()
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return c.refusal(res.StatusCode, method+" "+req.URL.Path, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return runtimeFault("the Jupyter server at %s does not answer as one: %s %s", c.base.Host, method, req.URL.Path).Because(err)
	}
	return nil
}

func (c *Client) header() http.Header {
	return http.Header{"Authorization": {"token " + c.cfg.Token}}
}

func runtimeFault(format string, args ...any) *fault.Error {
	return fault.Newf(fault.Internal, format, args...).WithCode("RUNTIME_ERROR")
}

// unreachable explains a call that got no answer. The cause of ctx comes first: it is why the call was given up.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	reason := "the time is over"
	if ctx.Err() == nil {
		reason = rootCause(err).Error()
	}
	return runtimeFault("the Jupyter server at %s does not answer: %s", c.base.Host, reason).Because(err)
}

// rootCause leaves out what repeats the URL.
func rootCause(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	if oe, ok := errors.AsType[*net.OpError](err); ok {
		err = oe.Err
	}
	return err
}

// refusal explains an answer that is no success.
func (c *Client) refusal(status int, call string, body []byte) error {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status >= 300 && status < 400:
		return &answered{status, runtimeFault("the Jupyter server at %s refuses the token of JUPYTER_TOKEN (status %d)", c.base.Host, status)}
	default:
		return &answered{status, runtimeFault("the Jupyter server at %s answered %s with status %d%s", c.base.Host, call, status, reason(body))}
	}
}

// reason returns the text of Jupyter's own errors, with a colon before it. Anything else, such as a page, is left out.
func reason(body []byte) string {
	var e struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &e) != nil || e.Message == "" {
		return ""
	}
	return ": " + e.Message[:sse.CutText(e.Message, maxReason)]
}

// is reports whether err is an answer with that status.
func is(err error, status int) bool {
	a, ok := errors.AsType[*answered](err)
	return ok && a.status == status
}

// listening makes a call again while nobody listens, until ctx ends. That nobody does is then the error, whatever the last call met.
func listening(ctx context.Context, call func() error) error {
	var refused error
	for {
		err := call()
		if !errors.Is(err, syscall.ECONNREFUSED) {
			if refused != nil && errors.Is(err, context.DeadlineExceeded) {
				return refused
			}
			return err
		}
		refused = err
		select {
		case <-time.After(startPoll):
		case <-ctx.Done():
			return refused
		}
	}
}
