package jupyter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"opensandbox/services/execd/internal/code"
	"opensandbox/services/execd/internal/uuid"
)

const (
	// createWait bounds the start of a kernel: a minute is what Jupyter itself gives it.
	createWait = time.Minute
	// sweepWait bounds the end of a kernel that nobody wants.
	sweepWait = 20 * time.Second
)

// native is the kernel that every Jupyter server has beside those of its image.
const native = "python3"

// kernelSpecs is the answer of /api/kernelspecs.
type kernelSpecs struct {
	Specs map[string]struct {
		Spec struct {
			Language string `json:"language"`
		} `json:"spec"`
	} `json:"kernelspecs"`
}

// choose returns the kernel for a language: the one that has its name, else the first of the alphabet; Jupyter's own Python only if the
// image has no other.
func (k kernelSpecs) choose(language string) (string, error) {
	var names, languages []string
	for name, s := range k.Specs {
		languages = append(languages, s.Spec.Language)
		if s.Spec.Language == language {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		slices.Sort(languages)
		return "", runtimeFault("this image has no kernel for %s; it has them for: %s", language, strings.Join(slices.Compact(languages), ", "))
	}
	rank := func(name string) int {
		switch name {
		case language:
			return 0
		case native:
			return 2
		default:
			return 1
		}
	}
	return slices.MinFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) }), nil
}

// session is one of Jupyter's: a kernel, and the notebook that it is said to belong to.
type session struct {
	ID     string     `json:"id,omitempty"`
	Path   string     `json:"path"`
	Name   string     `json:"name"`
	Type   string     `json:"type"`
	Kernel kernelName `json:"kernel"`
}

type kernelName struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name"`
}

// Start implements code.Kernels. The kernel starts in dir if the server's root directory is that of the file system, else in dir below the
// root directory.
func (c *Client) Start(ctx context.Context, language, dir string) (code.Kernel, error) {
	var specs kernelSpecs
	if err := listening(ctx, func() error { return c.do(ctx, http.MethodGet, nil, &specs, "api", "kernelspecs") }); err != nil {
		return nil, err
	}
	name, err := specs.choose(language)
	if err != nil {
		return nil, err
	}
	id := uuid.New()
	want := session{Path: strings.TrimLeft(dir+"/"+id+".ipynb", "/"), Name: id, Type: "notebook", Kernel: kernelName{Name: name}}
	made := make(chan outcome, 1)
	c.workers.Go(func() { made <- c.create(want) })
	select {
	case o := <-made:
		if o.err != nil {
			return nil, o.err
		}
		return o.kernel, nil
	case <-ctx.Done():
		c.workers.Go(func() { c.drop(<-made) })
		return nil, c.unreachable(ctx, ctx.Err())
	}
}

// outcome is a kernel or an error.
type outcome struct {
	kernel *kernel
	err    error
}

// create asks for a session. It does not end with a request: a server goes on when nobody waits for its answer, and then nobody would know
// of the kernel.
func (c *Client) create(want session) outcome {
	ctx, cancel := context.WithTimeout(c.ctx, createWait)
	defer cancel()
	var got session
	err := c.do(ctx, http.MethodPost, want, &got, "api", "sessions")
	if err == nil && (got.ID == "" || got.Kernel.ID == "") {
		err = runtimeFault("the Jupyter server at %s does not answer as one: a session without an id", c.base.Host)
	}
	if err != nil {
		return outcome{err: errors.Join(err, c.sweep(want.Path))}
	}
	return outcome{kernel: &kernel{client: c, session: got.ID, id: got.Kernel.ID}}
}

// drop ends a kernel that nobody waits for any more.
func (c *Client) drop(o outcome) {
	if o.kernel == nil {
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, sweepWait)
	defer cancel()
	_ = o.kernel.Stop(ctx) // Nobody is left to tell, and nothing else can be done.
}

// sweep ends the session of a path, if there is one: a server whose answer was not awaited may have made it all the same.
func (c *Client) sweep(path string) error {
	ctx, cancel := context.WithTimeout(c.ctx, sweepWait)
	defer cancel()
	var all []session
	if err := c.do(ctx, http.MethodGet, nil, &all, "api", "sessions"); err != nil {
		return fmt.Errorf("look for a kernel that may have been left: %w", err)
	}
	for _, s := range all {
		if s.Path == path {
			return (&kernel{client: c, session: s.ID}).Stop(ctx)
		}
	}
	return nil
}

// kernel is one session.
type kernel struct {
	client  *Client
	session string
	id      string
}

var _ code.Kernel = (*kernel)(nil)

// ID implements code.Kernel: as in OpenSandbox 1.1.1 it is that of the session.
func (k *kernel) ID() string { return k.session }

// Stop implements code.Kernel. 410 is what Jupyter answers when the kernel was gone before its session.
func (k *kernel) Stop(ctx context.Context) error {
	err := k.client.do(ctx, http.MethodDelete, nil, nil, "api", "sessions", k.session)
	if is(err, http.StatusNotFound) || is(err, http.StatusGone) {
		return nil
	}
	return err
}

// Interrupt implements code.Kernel.
func (k *kernel) Interrupt(ctx context.Context) error {
	return gone(k.client.do(ctx, http.MethodPost, nil, nil, "api", "kernels", k.id, "interrupt"))
}

// alive asks whether the kernel still exists and works.
func (k *kernel) alive(ctx context.Context) error {
	var state struct {
		Execution string `json:"execution_state"`
	}
	if err := gone(k.client.do(ctx, http.MethodGet, nil, &state, "api", "kernels", k.id)); err != nil {
		return err
	}
	if state.Execution == "dead" {
		return died()
	}
	return nil
}

// gone marks the answer that there is no such kernel.
func gone(err error) error {
	if is(err, http.StatusNotFound) {
		return fmt.Errorf("%w: %w", code.ErrGone, err)
	}
	return err
}
