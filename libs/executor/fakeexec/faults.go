package fakeexec

import (
	"maps"
	"slices"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
)

// FailNext makes the next call of a method fail, before it does anything. Calls add up.
func (e *Engine) FailNext(m Method, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failures[m] = append(e.failures[m], err)
}

// LoseToken lets the next start happen without the token reaching the daemon, as when the agent dies in between.
func (e *Engine) LoseToken() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.muteNext = true
}

// Heal forgets all planned failures and lets the engine answer.
func (e *Engine) Heal() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.failures)
	clear(e.foreign)
	e.down = false
}

// Stop stops the engine: nothing answers, and what runs ends, as without live restore.
func (e *Engine) Stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		return
	}
	e.down = true
	for _, id := range slices.Sorted(maps.Keys(e.boxes)) {
		b := e.boxes[id]
		if b.in.Phase == executor.Running || b.in.Phase == executor.Paused {
			e.end(b, 255, WasLost)
		}
	}
	for _, w := range e.watchers {
		close(w.broken)
	}
	clear(e.watchers)
}

// Go lets a stopped engine answer again.
func (e *Engine) Go() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = false
}

// SetFacts changes what the engine says of itself.
func (e *Engine) SetFacts(f executor.Facts) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.facts = f
}

// Down reports whether the engine is stopped.
func (e *Engine) Down() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.down
}

// ForeignPort lets somebody else bind a port of the node.
func (e *Engine) ForeignPort(port int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.foreign[port] = true
}

// Exit ends the entry point of a running sandbox by itself. It reports whether one was running.
func (e *Engine) Exit(id sandbox.ID, code int) bool {
	return e.byHand(id, func(b *box) bool {
		if b.in.Phase != executor.Running {
			return false
		}
		e.end(b, code, HasExited)
		return true
	})
}

// RemoveByHand takes a container away as an operator would.
func (e *Engine) RemoveByHand(id sandbox.ID) bool {
	return e.byHand(id, func(b *box) bool {
		delete(e.boxes, id)
		e.note(b.in.Ref, WasLost)
		return true
	})
}

// PauseByHand freezes a container as an operator would.
func (e *Engine) PauseByHand(id sandbox.ID) bool {
	return e.byHand(id, func(b *box) bool {
		if b.in.Phase != executor.Running {
			return false
		}
		b.in.Phase = executor.Paused
		e.note(b.in.Ref, WasPaused)
		return true
	})
}

func (e *Engine) byHand(id sandbox.ID, do func(*box) bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.boxes[id]
	return b != nil && do(b)
}

// Put places a container that no record knows of, as a crash or another life of the store leaves it.
func (e *Engine) Put(p executor.Plan, phase executor.Phase) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.boxes[p.ID] = &box{plan: p, in: executor.Instance{Ref: p.Ref, CreatedAt: p.CreatedAt, Phase: phase, StartedAt: e.now(), Published: p.Ports}}
}

// Instances returns all containers, whether or not the engine answers.
func (e *Engine) Instances() []executor.Instance {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]executor.Instance, 0, len(e.boxes))
	for _, id := range slices.Sorted(maps.Keys(e.boxes)) {
		out = append(out, e.boxes[id].in)
	}
	return out
}

// History returns everything that has happened.
func (e *Engine) History() []Entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.history)
}

// HistorySince returns what has happened after the first n entries.
func (e *Engine) HistorySince(n int) []Entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.history[min(n, len(e.history)):])
}

// Ports returns the published ports of a container, for tests.
func (e *Engine) Ports(id sandbox.ID) map[int]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b := e.boxes[id]; b != nil {
		return maps.Clone(b.plan.Ports)
	}
	return nil
}
