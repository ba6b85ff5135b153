//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// listen notes what an engine tells of the ends of containers, with its own times. It begins anew where it was when the engine was away; what the
// engine has forgotten by then is known from the looks at it.
func (w *watch) listen(ctx context.Context, e *engine) {
	since := time.Now()
	for ctx.Err() == nil {
		since = w.hear(ctx, e, since)
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
		}
	}
}

// hear notes events until the connection breaks, and returns the time of the last one.
func (w *watch) hear(ctx context.Context, e *engine, since time.Time) time.Time {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages, broken := e.docker.Events(ctx, events.ListOptions{
		Since: fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
		Filters: filters.NewArgs(filters.Arg("type", "container"), filters.Arg("event", "die"),
			filters.Arg("label", "dev.opensandbox.installation="+w.p.Installation)),
	})
	for {
		select {
		case <-broken:
			return since
		case m := <-messages:
			since = time.Unix(0, m.TimeNano)
			w.note(e, m, since)
		}
	}
}

// note keeps the first end of each container.
func (w *watch) note(e *engine, m events.Message, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.ends[m.Actor.ID]; known || m.Actor.Attributes["opensandbox.io/id"] == "" {
		return
	}
	w.ends[m.Actor.ID] = sighting{
		engine: e, container: m.Actor.ID, ran: true, dead: at,
		id: m.Actor.Attributes["opensandbox.io/id"], epoch: m.Actor.Attributes["dev.opensandbox.epoch"],
	}
}

// ended returns all containers that ran and have ended: when by the engine's own word, or else when it was first seen.
func (w *watch) ended() (all []sighting, told int) {
	for id, s := range w.seen {
		if _, ok := w.ends[id]; !ok && s.ran && !s.dead.IsZero() {
			all = append(all, *s)
		}
	}
	for _, s := range w.ends {
		all = append(all, s)
	}
	return all, len(w.ends)
}
