package command

import (
	"sync"
	"time"
)

// patience is how long a command waits for a sink before its output is put aside. A client that takes what it is offered is asked
// again far sooner, so it never causes a file; and a command hardly notices a pause of this length.
const patience = 20 * time.Millisecond

// relief reads the pipe in place of a pump that is stuck in its sink, so that the command need not wait for a slow reader. While
// there is room it empties the pipe into the backlog; without room the command waits in its write, and nothing is lost either way.
type relief struct {
	p     *pump
	timer *time.Timer    // Calls work. Set by the first give.
	calls sync.WaitGroup // Of the timer, pending ones included.

	mu      sync.Mutex
	changed sync.Cond // Something was added, or reading has ended.
	since   time.Time // When the pump entered its sink; zero while it is not there.
	armed   bool      // The timer runs.
	stuck   bool      // The pump has been in its sink for longer than patience.
	reading bool      // A call of the timer reads the pipe.
	closed  bool      // Nobody wants more.
	backlog backlog
}

// give hands lines to the sink.
func (r *relief) give(lines [][]byte) error {
	r.enter()
	err := r.p.sink.Output(r.p.stream, lines)
	r.mu.Lock()
	r.since, r.stuck = time.Time{}, false
	r.mu.Unlock()
	return err
}

// enter arms the timer, unless it runs since an earlier call: setting it for each of thousands of calls a second would wake another thread
// each time.
func (r *relief) enter() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = time.Now()
	if !r.armed {
		r.arm(patience)
	}
}

func (r *relief) arm(wait time.Duration) {
	r.armed = true
	r.calls.Add(1)
	if r.timer == nil {
		r.timer = time.AfterFunc(wait, r.work)
	} else {
		r.timer.Reset(wait)
	}
}

// work reads the pipe while the pump is stuck. A read that has begun ends only with output, also when the pump is long free
// again: the pump then waits for it in waiting.
func (r *relief) work() {
	defer r.calls.Done()
	if !r.begin() {
		return
	}
	buf := make([]byte, readSize)
	for r.goesOn() {
		n, err := r.p.take(buf)
		if err != nil {
			r.end()
			return
		}
		r.keep(buf[:n])
	}
}

// begin reports whether the pump is stuck and nobody reads the pipe.
func (r *relief) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.armed = false
	if r.since.IsZero() || r.closed {
		return false
	}
	if early := patience - time.Since(r.since); early > 0 {
		r.arm(early) // This is a later call than that which armed the timer.
		return false
	}
	r.stuck = true
	if r.reading {
		return false
	}
	r.reading = true
	return true
}

// goesOn reports whether there is a reason to read more, and room for it. Without them reading is over.
func (r *relief) goesOn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reading = r.stuck && !r.closed && r.backlog.room()
	if !r.reading {
		r.changed.Broadcast()
	}
	return r.reading
}

func (r *relief) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reading = false
	r.changed.Broadcast()
}

func (r *relief) keep(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.backlog.add(b)
	}
	r.changed.Broadcast()
}

// waiting takes the oldest bytes of the backlog. It returns 0 when the next bytes are in the pipe.
func (r *relief) waiting(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.backlog.empty() {
		if !r.reading {
			return 0, nil
		}
		r.changed.Wait()
	}
	return r.backlog.read(b)
}

// close drops what nobody wants any more. A read that has begun goes on until there is output, whose end it is.
func (r *relief) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.backlog.drop()
	if r.armed && r.timer.Stop() {
		r.armed = false
		r.calls.Done()
	}
}
