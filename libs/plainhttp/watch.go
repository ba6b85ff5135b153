package plainhttp

import (
	"sync"
	"time"
)

// patience is how long an answer may take before the connection is watched for the end of its client.
const patience = 200 * time.Millisecond

// watch reads ahead while an answer takes a while, so that a client that goes away is noticed. What it reads stays in the buffer.
type watch struct {
	c     *conn
	timer *time.Timer

	mu sync.Mutex
	// on says that there is a request; reading is closed when the reading has ended, and nil if there is none.
	on      bool
	reading chan struct{}
}

func (w *watch) init(c *conn) {
	w.c = c
	w.timer = time.AfterFunc(time.Hour, w.read)
	w.timer.Stop()
}

// begin is called before a request is answered. Until end, only the watch reads from the connection.
func (w *watch) begin() {
	w.mu.Lock()
	w.on = true
	w.mu.Unlock()
	w.timer.Reset(patience)
}

// end is called when the request has been answered. It returns when nothing reads any more.
func (w *watch) end() {
	w.timer.Stop()
	w.mu.Lock()
	w.on = false
	reading := w.reading
	if reading != nil {
		_ = w.c.rwc.SetReadDeadline(time.Unix(1, 0)) // ends the read
	}
	w.mu.Unlock()
	if reading == nil {
		return
	}
	<-reading
	w.mu.Lock()
	w.reading = nil
	w.mu.Unlock()
	w.c.until = time.Unix(1, 0) // another limit is set before the next read
}

// read runs in the goroutine of the timer. One that comes late, for a request that has been answered meanwhile, does nothing or begins with
// the next request a little early.
func (w *watch) read() {
	w.mu.Lock()
	if !w.on || w.reading != nil {
		w.mu.Unlock()
		return
	}
	done := make(chan struct{})
	defer close(done)
	w.reading = done
	_ = w.c.rwc.SetReadDeadline(time.Time{})
	w.mu.Unlock()
	if _, err := w.c.in.Peek(1); err != nil && !isTimeout(err) {
		w.c.cancel()
	}
}
