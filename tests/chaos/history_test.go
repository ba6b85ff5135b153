//go:build chaos

package chaos

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// call is one request and what came of it.
type call struct {
	// What is the operation: create, get, renew, patch, pause, resume, delete, command, list.
	What string `json:"what"`
	// ID is of the sandbox; empty if a create was answered without one.
	ID    string    `json:"id,omitempty"`
	Key   string    `json:"key,omitempty"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	// Status is that of the answer; 0 if there was none, or no whole one.
	Status int    `json:"status"`
	Said   string `json:"said,omitempty"`
	// Deadline is what a renewal asks for, or what an answer shows; Mark is the same of the one key of metadata that patches change.
	Deadline time.Time `json:"deadline,omitzero"`
	Mark     string    `json:"mark,omitempty"`
	State    string    `json:"state,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	// prolonged says that the deadline shown may be one that nobody has asked for last: what a store which went back leaves to a sandbox.
	prolonged bool
}

// open reports whether the call may have taken effect, then or at any later time, although nobody said so.
func (c *call) open() bool { return c.Status == 0 || c.Status >= 500 }

// ok reports whether the call was acknowledged.
func (c *call) ok() bool { return c.Status >= 200 && c.Status < 300 }

// outcome groups calls for the report.
func (c *call) outcome() string {
	switch {
	case c.ok():
		return "done"
	case c.Status == 0:
		return "no answer"
	case c.Status >= 500:
		return "5xx"
	}
	return "4xx"
}

// history is all calls of a run. It may be used concurrently.
type history struct {
	mu    sync.Mutex
	calls []*call
	file  *os.File
	lines *json.Encoder
}

func newHistory(path string) (*history, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &history{file: f, lines: json.NewEncoder(f)}, nil
}

func (h *history) add(c *call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, c)
	_ = h.lines.Encode(c) // the report comes from memory
}

func (h *history) close() { _ = h.file.Close() }

// byID returns the calls of each sandbox in the order in which they ended.
func (h *history) byID() map[string][]*call {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string][]*call{}
	for _, c := range h.calls {
		if c.ID != "" {
			out[c.ID] = append(out[c.ID], c)
		}
	}
	return out
}
