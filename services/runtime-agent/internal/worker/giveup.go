package worker

import (
	"context"
	"time"

	"opensandbox/libs/sandbox"
)

// wantedEvery is how often a long step reads its record again without a hint.
const wantedEvery = time.Second

// Reader is what GiveUp reads.
type Reader interface {
	Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error)
}

// GiveUp returns the function that long steps use to learn that their sandbox is no longer wanted: its context ends when the record
// is Gone, or gone. The returned free function waits for the goroutine behind it. news are those that the Worker publishes: a sandbox that is
// not wanted any more is work for the node.
func GiveUp(store Reader, news sandbox.Hints) func(ctx context.Context, id sandbox.ID) (context.Context, func()) {
	return func(ctx context.Context, id sandbox.ID) (context.Context, func()) {
		wanted, cancel := context.WithCancel(ctx)
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			defer cancel()
			watch(wanted, store, news, id)
		}()
		return wanted, func() { cancel(); <-finished }
	}
}

func watch(ctx context.Context, store Reader, news sandbox.Hints, id sandbox.ID) {
	changed, stop := news.Subscribe(sandbox.RecordTopic(id))
	defer stop()
	tick := time.NewTicker(wantedEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
		if r, err := store.Get(ctx, id); err == nil && (r.Gone() || r.Ended()) {
			return
		}
	}
}
