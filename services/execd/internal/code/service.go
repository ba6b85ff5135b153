package code

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"opensandbox/libs/fault"
)

// Config is what a Service needs.
type Config struct {
	// Kernels is nil when the image has none; Missing then says why.
	Kernels Kernels
	Missing string
	// MakeDir makes the working directory that a client has named, and returns its absolute path.
	MakeDir func(cwd string) (string, error)
}

// Service keeps the contexts of a sandbox. Its methods may be called concurrently.
type Service struct {
	cfg Config

	mu       sync.Mutex
	contexts []*entry // In the order in which they were made.
	closed   bool
	// firsts has a place for each language, held while its default context is looked up or made, so that it is made once.
	firsts map[string]chan struct{}

	ctx     context.Context
	cancel  context.CancelCauseFunc
	workers sync.WaitGroup
}

// entry is one context. The fields below the blank line are guarded by the Service's lock.
type entry struct {
	Context
	kernel  Kernel
	isFirst bool // It is the default context of its language.

	busy    bool
	leaving bool // It is being deleted.
	stop    context.CancelCauseFunc
}

// New returns a Service without contexts.
func New(cfg Config) *Service {
	s := &Service{cfg: cfg, firsts: map[string]chan struct{}{}}
	for _, l := range languages {
		s.firsts[l] = make(chan struct{}, 1)
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// Close ends what runs and waits for it. Kernels are left alone: they end with the sandbox.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel(errStopping)
	s.workers.Wait()
}

var errStopping = fault.New(fault.Unavailable, "the sandbox is shutting down").WithCode(codeRuntime)

// enter counts the caller as a worker until it calls workers.Done, so that Close waits for it.
func (s *Service) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errStopping
	}
	s.workers.Add(1)
	return nil
}

// bound returns a context that also ends with the Service, and after limit.
func (s *Service) bound(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// Create makes a context. cwd may begin with ~ or have variables, and is made if it does not exist.
func (s *Service) Create(ctx context.Context, language, cwd string) (Context, error) {
	if err := checkLanguage(language); err != nil {
		return Context{}, err
	}
	if err := s.enter(); err != nil {
		return Context{}, err
	}
	defer s.workers.Done()
	e, err := s.create(ctx, language, cwd, false)
	if err != nil {
		return Context{}, err
	}
	return e.Context, nil
}

func (s *Service) create(ctx context.Context, language, cwd string, first bool) (*entry, error) {
	if s.cfg.Kernels == nil {
		return nil, runtimeFault(s.cfg.Missing)
	}
	var dir string
	if cwd != "" { // Otherwise the kernels' own default.
		var err error
		if dir, err = s.cfg.MakeDir(cwd); err != nil {
			return nil, err
		}
	}
	ctx, cancel := s.bound(ctx, startWait)
	defer cancel()
	k, err := s.cfg.Kernels.Start(ctx, language, dir)
	if err != nil {
		return nil, err
	}
	e := &entry{Context: Context{ID: k.ID(), Language: language, Cwd: dir}, kernel: k, isFirst: first}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.contexts = append(s.contexts, e)
	return e, nil
}

// List returns the contexts of a language, or all, in the order in which they were made. It is never nil.
func (s *Service) List(language string) ([]Context, error) {
	if language != "" {
		if err := checkLanguage(language); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Context{}
	for _, e := range s.contexts {
		if !e.leaving && (language == "" || e.Language == language) {
			out = append(out, e.Context)
		}
	}
	return out, nil
}

// Get returns a context.
func (s *Service) Get(id string) (Context, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.find(id); e != nil {
		return e.Context, nil
	}
	return Context{}, notFound(id)
}

// find returns a context that is not being deleted, or nil. The lock is held.
func (s *Service) find(id string) *entry {
	for _, e := range s.contexts {
		if e.ID == id && !e.leaving {
			return e
		}
	}
	return nil
}

// Delete ends a context, and what runs in it. If its kernel cannot be ended the context stays.
func (s *Service) Delete(ctx context.Context, id string) error {
	s.mu.Lock()
	e := s.find(id)
	if e != nil {
		e.leaving = true
	}
	s.mu.Unlock()
	if e == nil {
		return notFound(id)
	}
	return s.end(ctx, e)
}

// DeleteAll ends all contexts of a language, as far as it can.
func (s *Service) DeleteAll(ctx context.Context, language string) error {
	if err := checkLanguage(language); err != nil {
		return err
	}
	var leaving []*entry
	s.mu.Lock()
	for _, e := range s.contexts {
		if e.Language == language && !e.leaving {
			e.leaving = true
			leaving = append(leaving, e)
		}
	}
	s.mu.Unlock()
	var first error
	for _, e := range leaving {
		if err := s.end(ctx, e); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// end stops the kernel of a context that is marked as leaving. The client may go away meanwhile: what was begun is finished.
func (s *Service) end(ctx context.Context, e *entry) error {
	err := s.enter()
	if err == nil {
		defer s.workers.Done()
		bound, cancel := s.bound(context.WithoutCancel(ctx), callWait)
		defer cancel()
		err = e.kernel.Stop(bound)
	}
	if err != nil {
		s.mu.Lock()
		e.leaving = false
		s.mu.Unlock()
		return err
	}
	s.forget(e)
	return nil
}

// forget removes a context whose kernel is gone, and ends what runs in it.
func (s *Service) forget(e *entry) {
	s.mu.Lock()
	s.contexts = slices.DeleteFunc(s.contexts, func(other *entry) bool { return other == e })
	stop := e.stop
	s.mu.Unlock()
	if stop != nil {
		stop(errDeleted)
	}
}

var errDeleted = runtimeFault("the context was deleted")

// Has tells whether a context exists.
func (s *Service) Has(id string) bool {
	_, err := s.Get(id)
	return err == nil
}

// Interrupt stops what a context runs. That nothing runs is a success: clients repeat the call.
func (s *Service) Interrupt(ctx context.Context, id string) error {
	s.mu.Lock()
	e := s.find(id)
	s.mu.Unlock()
	if e == nil {
		return notFound(id)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.workers.Done()
	ctx, cancel := s.bound(ctx, callWait)
	defer cancel()
	return s.checked(e, e.kernel.Interrupt(ctx))
}

// checked forgets a context whose kernel turned out to be gone, and says so.
func (s *Service) checked(e *entry, err error) error {
	if !errors.Is(err, ErrGone) {
		return err
	}
	s.forget(e)
	return runtimeFault(fmt.Sprintf("context %s is lost with its variables: its kernel does not exist any more", e.ID)).Because(err)
}
