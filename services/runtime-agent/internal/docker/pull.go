package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
)

// progressEvery is how often the progress of a pull is told.
const progressEvery = 500 * time.Millisecond

// pulls shares the pulls of an engine: of any number of callers that want one image for one platform, one pulls and all listen. Callers with
// other credentials, or none, are never among them: what a registry gives to one it may refuse to another.
type pulls struct {
	mu      sync.Mutex
	byImage map[executor.Image]*pull
	// have are images that were there when somebody last looked. Create finds out if that has changed.
	have sync.Map
}

type pull struct {
	waiters  int
	progress string
	changed  chan struct{} // closed and replaced when progress changes
	done     chan struct{} // closed when err is final
	err      error
	cancel   context.CancelFunc
}

func (p *pulls) forget(img string) { p.have.Delete(img) }

// EnsureImage makes the image present. One that the engine has already is used whatever the credentials are, as in OpenSandbox 1.1.1: the
// registry is not asked.
func (e *Engine) EnsureImage(ctx context.Context, want executor.Image, progress func(string)) error {
	img, onto := want.Name, want.Platform
	// The engine keeps one platform's image under a name, so what it has for a given platform is looked at each time.
	if _, ok := e.pulls.have.Load(img); ok && onto == "" {
		return nil
	}
	bounded, cancel := e.bounded(ctx)
	have, err := e.api.ImageInspect(bounded, img)
	cancel()
	switch {
	case err == nil && isFor(have.Os, have.Architecture, onto):
		e.pulls.have.Store(img, true)
		return nil
	case err == nil:
		e.pulls.forget(img)
	case errdefs.IsInvalidArgument(err):
		return fault.Newf(fault.Invalid, "image %q is not a valid reference", img).WithCode(executor.CodeImage).Because(err)
	case !errdefs.IsNotFound(err):
		return classify("inspect image", err)
	}
	p := e.join(want)
	defer e.leave(want, p)
	last := ""
	for {
		e.pulls.mu.Lock()
		text, changed := p.progress, p.changed
		e.pulls.mu.Unlock()
		if text != last {
			progress(text)
			last = text
		}
		select {
		case <-p.done:
			return p.err
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// join returns the pull of the image in progress, or begins one. Its goroutine ends when the last waiter has left, or with the pull.
func (e *Engine) join(want executor.Image) *pull {
	e.pulls.mu.Lock()
	defer e.pulls.mu.Unlock()
	if p := e.pulls.byImage[want]; p != nil {
		p.waiters++
		return p
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.cfg.PullTimeout)
	p := &pull{waiters: 1, progress: "pulling image " + want.Name, changed: make(chan struct{}), done: make(chan struct{}), cancel: cancel}
	e.pulls.byImage[want] = p
	go func() {
		err := e.pull(ctx, want, p)
		e.pulls.mu.Lock()
		defer e.pulls.mu.Unlock()
		if e.pulls.byImage[want] == p {
			delete(e.pulls.byImage, want)
		}
		if p.err = err; err == nil {
			e.pulls.have.Store(want.Name, true)
		}
		close(p.done)
	}()
	return p
}

// leave gives a pull up for one waiter. The last one stops it and waits for its end.
func (e *Engine) leave(want executor.Image, p *pull) {
	e.pulls.mu.Lock()
	p.waiters--
	last := p.waiters == 0
	if last && e.pulls.byImage[want] == p {
		delete(e.pulls.byImage, want) // whoever comes now begins anew
	}
	e.pulls.mu.Unlock()
	if last {
		p.cancel()
		<-p.done
	}
}

// isFor reports whether an image is for a platform, which may name a variant too; the empty one takes every image.
func isFor(os, arch, onto string) bool {
	p := platform(onto)
	return p == nil || p.OS == os && p.Architecture == arch
}

// shownFor returns what the registry of an image is shown: the credentials of the request, else, as in OpenSandbox 1.1.1, those that the user
// of this process has given to Docker's client.
func (e *Engine) shownFor(ctx context.Context, want executor.Image) shown {
	if c := want.Credentials; c.Set() {
		return shown{auth: registry.AuthConfig{Username: c.Username, Password: c.Password}}
	}
	auth, err := logins{e.cfg.ClientConfig}.of(want.Name)
	if err != nil {
		level := slog.LevelWarn
		if k, ok := errors.AsType[keptElsewhere](err); ok {
			if _, told := e.helpers.LoadOrStore(k.program, true); told {
				level = slog.LevelDebug
			}
		}
		e.cfg.Log.Log(ctx, level, "pulling without credentials", "image", want.Name, "error", err)
	}
	return shown{auth: auth, own: true}
}

func (e *Engine) pull(ctx context.Context, want executor.Image, p *pull) error {
	options := image.PullOptions{Platform: want.Platform}
	showing := e.shownFor(ctx, want)
	if showing.credentials().Set() {
		auth, err := registry.EncodeAuthConfig(showing.auth)
		if err != nil {
			return fault.New(fault.Internal, "the registry credentials cannot be written for the engine").WithCode(executor.CodeImage)
		}
		options.RegistryAuth = auth
	}
	stream, err := e.api.ImagePull(ctx, withTag(want.Name), options)
	if err != nil {
		return pullFault(want.Name, showing, err)
	}
	defer stream.Close()
	layers := newLayers(want.Name)
	dec := json.NewDecoder(stream)
	var told time.Time
	for {
		var m pullMessage
		err := dec.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return pullFault(want.Name, showing, err)
		case m.Error != "":
			return pullFault(want.Name, showing, errors.New(m.Error))
		}
		layers.take(m)
		if time.Since(told) < progressEvery {
			continue
		}
		told = time.Now()
		e.pulls.mu.Lock()
		p.progress = layers.String()
		close(p.changed)
		p.changed = make(chan struct{})
		e.pulls.mu.Unlock()
	}
}

// withTag adds the default tag: without one the engine's API would pull all tags.
func withTag(img string) string {
	name := img[strings.LastIndexByte(img, '/')+1:]
	if strings.ContainsAny(name, ":@") {
		return img
	}
	return img + ":latest"
}

// pullMessage is one message of the engine's pull stream.
type pullMessage struct {
	Status   string `json:"status"`
	ID       string `json:"id"`
	Error    string `json:"error"`
	Progress struct {
		Current int64 `json:"current"`
		Total   int64 `json:"total"`
	} `json:"progressDetail"`
}

// layers adds up the progress of an image's layers.
type layers struct {
	image string
	by    map[string]layer
}

type layer struct {
	current, total int64
	done           bool
}

func newLayers(img string) *layers { return &layers{image: img, by: map[string]layer{}} }

func (l *layers) take(m pullMessage) {
	if m.ID == "" {
		return
	}
	switch m.Status {
	case "Pulling fs layer", "Waiting":
		l.by[m.ID] = layer{}
	case "Downloading":
		l.by[m.ID] = layer{current: m.Progress.Current, total: m.Progress.Total}
	case "Download complete", "Pull complete", "Already exists":
		was := l.by[m.ID]
		l.by[m.ID] = layer{current: was.total, total: was.total, done: m.Status != "Download complete"}
	}
}

// String is for people: "pulling image x: 45% of 12.3 MB, 3 of 7 layers".
func (l *layers) String() string {
	var current, total float64 // Sizes are what the registry says; their sum may be more than an integer holds.
	done := 0
	for _, y := range l.by {
		current, total = current+float64(y.current), total+float64(y.total)
		if y.done {
			done++
		}
	}
	text := "pulling image " + l.image
	if total > 0 {
		text += fmt.Sprintf(": %d%% of %.1f MB", int(min(max(100*current/total, 0), 100)), total/1e6)
	}
	if len(l.by) > 0 {
		text += fmt.Sprintf(", %d of %d layers", done, len(l.by))
	}
	return text
}
