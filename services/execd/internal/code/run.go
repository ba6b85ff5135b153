package code

import (
	"context"
	"time"
)

// Run runs a snippet and returns how long it took, after everything was given to the sink, or ctx's error when ctx ended first: the snippet
// then goes on, and its context stays busy until it is done. Before the sink hears that the run has started an error means that nothing ran.
func (s *Service) Run(ctx context.Context, r Request, sink Sink) (time.Duration, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.workers.Done()
	e, err := s.resolve(ctx, r)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	running, free, ok := s.occupy(e)
	if !ok {
		sink.Started(e.ID)
		return 0, runtimeFault("error running codes session is busy")
	}
	run, err := s.connect(ctx, e)
	if err != nil {
		free()
		return 0, err
	}
	sink.Started(e.ID)
	done := make(chan error, 1)
	s.workers.Go(func() {
		err := s.settled(e, run.Run(running, r.Code, sink))
		free() // First: who hears of the end may run the next snippet at once.
		done <- err
	})
	select {
	case err := <-done:
		return time.Since(began), err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// settled explains the end of a run whose context was deleted meanwhile: the kernel and the way to it may be lost in any order.
func (s *Service) settled(e *entry, err error) error {
	if err == nil {
		return nil
	}
	s.mu.Lock()
	leaving := e.leaving
	s.mu.Unlock()
	if leaving {
		return errDeleted
	}
	return s.checked(e, err)
}

func (s *Service) connect(ctx context.Context, e *entry) (Execution, error) {
	ctx, cancel := s.bound(ctx, connectWait)
	defer cancel()
	run, err := e.kernel.Connect(ctx)
	return run, s.settled(e, err)
}

// occupy takes a context for one run. running ends with the context and with the Service; free gives the context back.
func (s *Service) occupy(e *entry) (running context.Context, free func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.busy {
		return nil, nil, false
	}
	ctx, stop := context.WithCancelCause(s.ctx)
	e.busy, e.stop = true, stop
	return ctx, func() {
		s.mu.Lock()
		e.busy, e.stop = false, nil
		s.mu.Unlock()
		stop(nil)
	}, true
}

// resolve finds the context of a request, and makes the default one of its language if need be.
func (s *Service) resolve(ctx context.Context, r Request) (*entry, error) {
	if r.ContextID != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e := s.find(r.ContextID); e != nil {
			return e, nil
		}
		return nil, runtimeFault("context not found: " + r.ContextID)
	}
	if err := checkLanguage(r.Language); err != nil {
		return nil, err
	}
	return s.first(ctx, r.Language)
}

// first returns the default context of a language. Those who find it in the making wait for it, as long as a kernel may take to start.
func (s *Service) first(ctx context.Context, language string) (*entry, error) {
	ctx, cancel := s.bound(ctx, startWait)
	defer cancel()
	place := s.firsts[language]
	select {
	case place <- struct{}{}:
		defer func() { <-place }()
	case <-ctx.Done():
		return nil, runtimeFault("the kernel does not start in time").Because(ctx.Err())
	}
	s.mu.Lock()
	for _, e := range s.contexts {
		if e.isFirst && e.Language == language && !e.leaving {
			s.mu.Unlock()
			return e, nil
		}
	}
	s.mu.Unlock()
	return s.create(ctx, language, "", true)
}
