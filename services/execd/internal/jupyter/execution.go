package jupyter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"

	"opensandbox/services/execd/internal/code"
	"opensandbox/services/execd/internal/uuid"
)

const (
	// replyGrace is how long the reply to a request may come after everything else: the two travel on different ways.
	replyGrace = 2 * time.Second
	// idleWait is how long a kernel that has replied may be silent before it says that it is done: what it said is lost then.
	idleWait = 10 * time.Second
	// greetWait bounds the wait for the answer to a greeting, which a kernel that is busy does not give. greetPause is the time before the second
	// one; each further takes twice as long.
	greetWait  = 3 * time.Second
	greetPause = 200 * time.Millisecond
	// lookWait bounds one look whether the kernel is still there.
	lookWait = 10 * time.Second
	// maxMisses is the number of looks without an answer after which the server counts as lost.
	maxMisses = 3
)

var errDied = errors.New("the kernel died")

func died() error {
	return runtimeFault("the kernel died; it starts again without its variables").Because(errDied)
}

// execution is a WebSocket to a kernel.
type execution struct {
	kernel *kernel
	conn   *websocket.Conn

	request string // The id of our message: what answers others is not for us.
	out     code.Output
	raised  bool
	idle    bool // The kernel is done with the snippet.
	replied bool
	heard   time.Time // When the last frame came.
	misses  int
}

var _ code.Execution = (*execution)(nil)

// Connect implements code.Kernel. Jupyter accepts the connection once the kernel answers.
func (k *kernel) Connect(ctx context.Context) (code.Execution, error) {
	c := k.client
	options := &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: c.header()}
	conn, res, err := websocket.Dial(ctx, c.address("api", "kernels", k.id, "channels"), options)
	switch {
	case err == nil:
		conn.SetReadLimit(c.cfg.MaxMessage)
		return &execution{kernel: k, conn: conn, request: uuid.New()}, nil
	case res != nil && res.StatusCode != http.StatusSwitchingProtocols:
		return nil, gone(c.refusal(res.StatusCode, "GET "+res.Request.URL.Path, nil))
	default:
		return nil, c.unreachable(ctx, err)
	}
}

// Close implements code.Execution.
func (e *execution) Close() { _ = e.conn.CloseNow() }

// frame is what was read.
type frame struct {
	data     []byte
	isBinary bool
	err      error
}

// Run implements code.Execution.
func (e *execution) Run(ctx context.Context, snippet string, out code.Output) error {
	e.out = out
	var reading sync.WaitGroup
	defer reading.Wait()
	defer e.Close()
	reads, stop := context.WithCancel(ctx)
	defer stop()
	request, err := executeRequest(e.request, uuid.New(), snippet, time.Now())
	if err != nil {
		return fmt.Errorf("encode the snippet: %w", err)
	}
	frames := make(chan frame)
	reading.Go(func() { e.read(reads, frames) })
	if err := e.greet(ctx, frames); err != nil {
		return err
	}
	if err := e.send(ctx, request); err != nil {
		return err
	}
	return e.follow(ctx, frames)
}

func (e *execution) send(ctx context.Context, request []byte) error {
	if err := e.conn.Write(ctx, websocket.MessageText, request); err != nil {
		return e.lost(ctx, err)
	}
	return nil
}

// greet waits until what the kernel publishes arrives. Jupyter accepts connections while a kernel starts again after its death, and a subscription
// comes into being some time after that: what is published until then goes nowhere, which would be all that a snippet says.
func (e *execution) greet(ctx context.Context, frames <-chan frame) error {
	var asked []string
	again, end := time.NewTimer(0), time.NewTimer(greetWait)
	defer again.Stop()
	defer end.Stop()
	for pause := greetPause; ; {
		select {
		case <-again.C:
			id := uuid.New()
			asked = append(asked, id)
			if err := e.ask(ctx, id); err != nil {
				return err
			}
			again.Reset(pause)
			pause *= 2
		case f := <-frames:
			m, err := e.handle(ctx, f)
			if err != nil || m.Type == "status" && slices.Contains(asked, m.Parent) {
				return err
			}
		case <-end.C:
			return nil // It is busy with what somebody else runs.
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ask sends a request that every kernel answers, and that changes nothing.
func (e *execution) ask(ctx context.Context, id string) error {
	request, err := infoRequest(id, uuid.New(), time.Now())
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	return e.send(ctx, request)
}

// read passes frames on until the connection or ctx ends.
func (e *execution) read(ctx context.Context, frames chan<- frame) {
	for {
		kind, data, err := e.conn.Read(ctx)
		select {
		case frames <- frame{data, kind == websocket.MessageBinary, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// follow handles frames until the kernel is done.
func (e *execution) follow(ctx context.Context, frames <-chan frame) error {
	look := time.NewTicker(e.kernel.client.cfg.Look)
	defer look.Stop()
	var grace <-chan time.Time
	for {
		select {
		case f := <-frames:
			look.Reset(e.kernel.client.cfg.Look)
			e.heard = time.Now()
			if _, err := e.handle(ctx, f); err != nil {
				return err
			}
		case <-look.C:
			if e.replied && time.Since(e.heard) >= idleWait {
				return runtimeFault("the kernel has run the code, but what it said was lost")
			}
			if err := e.look(ctx); err != nil {
				return err
			}
		case <-grace:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if e.idle && e.replied {
			return nil
		}
		if e.idle && grace == nil {
			grace = time.After(replyGrace)
		}
	}
}

// lost explains the end of the connection.
func (e *execution) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, websocket.ErrMessageTooBig) {
		return runtimeFault("the kernel sent more than %d bytes at once; the code may still run", e.kernel.client.cfg.MaxMessage).Because(err)
	}
	ask, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	if err := e.kernel.alive(ask); errors.Is(err, code.ErrGone) || errors.Is(err, errDied) {
		return err
	}
	return runtimeFault("the connection to the Jupyter server was lost; the code may still run").Because(err)
}

// look finds out whether a silent kernel is still there. A server that is busy may miss a look.
func (e *execution) look(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	err := e.kernel.alive(ask)
	switch {
	case err == nil:
		e.misses = 0
		return nil
	case errors.Is(err, code.ErrGone), errors.Is(err, errDied), ctx.Err() != nil:
		return err
	}
	if e.misses++; e.misses < maxMisses {
		return nil
	}
	return err
}

// handle takes one frame. An error ends the run.
func (e *execution) handle(ctx context.Context, f frame) (message, error) {
	if f.err != nil {
		return message{}, e.lost(ctx, f.err)
	}
	m, err := parse(f.data, f.isBinary)
	if err == nil {
		err = e.take(m)
	}
	if err != nil && !errors.Is(err, errDied) {
		err = runtimeFault("the Jupyter server sent what is no message of its protocol; the code may still run").Because(err)
	}
	return m, err
}

// take gives one message to the output.
func (e *execution) take(m message) error {
	if m.Type == "status" {
		return e.status(m)
	}
	if m.Parent != e.request {
		return nil
	}
	switch m.Type {
	case "stream":
		var c struct{ Name, Text string }
		if err := m.content(&c); err != nil {
			return err
		}
		if c.Name != "stderr" {
			c.Name = "stdout"
		}
		e.out.Text(c.Name, c.Text)
	case "execute_result", "display_data":
		var c struct {
			Count int                        `json:"execution_count"`
			Data  map[string]json.RawMessage `json:"data"`
		}
		if err := m.content(&c); err != nil {
			return err
		}
		if m.Type == "display_data" {
			e.out.Display(code.Texts(c.Data))
		} else {
			e.out.Result(c.Count, code.Texts(c.Data))
		}
	case "error":
		var c problem
		if err := m.content(&c); err != nil {
			return err
		}
		e.raise(c)
	case "execute_reply":
		return e.reply(m)
	}
	return nil
}

// problem is an error of the snippet.
type problem struct {
	Name  string   `json:"ename"`
	Value string   `json:"evalue"`
	Trace []string `json:"traceback"`
}

func (e *execution) raise(p problem) {
	e.raised = true
	e.out.Raised(p.Name, p.Value, p.Trace)
}

// reply takes the answer to the request itself. It repeats an error that was told before; kernels that tell it here only do exist.
func (e *execution) reply(m message) error {
	var c struct {
		Status string `json:"status"`
		problem
	}
	if err := m.content(&c); err != nil {
		return err
	}
	e.replied = true
	switch {
	case e.raised || c.Status == "ok":
	case c.Status == "error":
		e.raise(c.problem)
	default: // "aborted", "abort"
		e.raise(problem{Name: "ExecutionAborted", Value: "the kernel did not run the code"})
	}
	return nil
}

// status takes a change of the kernel. Its death is nobody's answer, so it counts whatever it says that it answers.
func (e *execution) status(m message) error {
	var c struct {
		State string `json:"execution_state"`
	}
	if err := m.content(&c); err != nil {
		return err
	}
	switch c.State {
	case "restarting", "autorestarting", "dead":
		return died()
	case "idle":
		e.idle = e.idle || m.Parent == e.request
	}
	return nil
}
