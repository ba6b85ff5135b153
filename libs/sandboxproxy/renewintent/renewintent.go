// Package renewintent tells that sandboxes are in use, so that whoever consumes the intents can move their deadlines. It never holds
// up the traffic that it tells of: what does not fit is dropped.
package renewintent

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"opensandbox/libs/sandbox"
)

// Intent says that a sandbox was used. Its JSON form is that of OpenSandbox 1.1.1.
type Intent struct {
	SandboxID sandbox.ID `json:"sandbox_id"`
	// ObservedAt is in UTC; its JSON form is RFC 3339 with up to nine digits of a second.
	ObservedAt time.Time `json:"observed_at"`
	Port       int       `json:"port,omitempty"`
	// RequestURI is the raw path for the application, without the query: that may hold secrets.
	RequestURI string `json:"request_uri,omitempty"`
}

// Publisher hands intents to their consumers. Publish gets the JSON form of one, bounds its own time and may be called concurrently.
type Publisher interface {
	Publish(ctx context.Context, payload []byte) error
}

// Observer is told what becomes of intents, with one of the words below. It must not block.
type Observer interface {
	Intent(result string)
}

// What becomes of an intent, a closed set. What the least interval between two of them holds back is not an intent.
const (
	Published = "published"
	// Failed: the queue did not take it.
	Failed = "failed"
	// Dropped: it did not fit, because intents come faster than they are published.
	Dropped = "dropped"
)

type nobody struct{}

func (nobody) Intent(string) {}

// Header is the request header by which a client says that a request is not a use; Skip is the one value that does.
const (
	Header = "OpenSandbox-Access-Renew"
	Skip   = "skip"
)

const (
	// queueSize and workers are those of OpenSandbox 1.1.1.
	queueSize = 8192
	workers   = 4
	// maxTracked bounds the sandboxes whose last intent is remembered. A forgotten one costs an intent more than needed.
	maxTracked = 65536
	// fullEvery is the least time between two log lines about a full queue.
	fullEvery = time.Minute
)

// Producer collects intents and publishes them. It may be used concurrently.
type Producer struct {
	publisher   Publisher
	minInterval time.Duration
	observer    Observer
	log         *slog.Logger
	queue       chan Intent
	failing     atomic.Bool

	mu       sync.Mutex
	last     *simplelru.LRU[sandbox.ID, time.Time]
	fullSaid time.Time
}

// New returns a Producer that publishes at most one intent per sandbox in minInterval; 0 or less means all. observer may be nil.
func New(p Publisher, minInterval time.Duration, observer Observer, log *slog.Logger) *Producer {
	if observer == nil {
		observer = nobody{}
	}
	last, err := simplelru.NewLRU[sandbox.ID, time.Time](maxTracked, nil)
	if err != nil {
		panic("renewintent: " + err.Error()) // only for a size that is not positive
	}
	return &Producer{publisher: p, minInterval: minInterval, observer: observer, log: log, queue: make(chan Intent, queueSize), last: last}
}

// Used notes a request to a port of a sandbox. header is the value of Header in that request. It never blocks.
func (p *Producer) Used(id sandbox.ID, port int, requestURI, header string) {
	if header == Skip {
		return // before the throttle: a request that does not count must not stand in the way of one that does
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.minInterval > 0 {
		if at, ok := p.last.Get(id); ok && now.Sub(at) < p.minInterval {
			return
		}
	}
	select {
	case p.queue <- Intent{SandboxID: id, ObservedAt: now.UTC(), Port: port, RequestURI: requestURI}:
		if p.minInterval > 0 {
			p.last.Add(id, now)
		}
	default:
		p.observer.Intent(Dropped)
		if now.Sub(p.fullSaid) >= fullEvery {
			p.fullSaid = now
			p.log.Warn("the queue of renew intents is full; intents are dropped")
		}
	}
}

// Run publishes until ctx ends, then returns nil. Intents that are still queued are dropped: the next use of their sandboxes counts.
func (p *Producer) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for range workers {
		all.Go(func() { p.work(ctx) })
	}
	all.Wait()
	return nil
}

func (p *Producer) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case i := <-p.queue:
			p.publish(ctx, i)
		}
	}
}

// publish does not repeat what failed: the next use of the sandbox gives another intent.
func (p *Producer) publish(ctx context.Context, i Intent) {
	payload, err := json.Marshal(i)
	if err == nil {
		err = p.publisher.Publish(ctx, payload)
	}
	switch {
	case err == nil:
		p.observer.Intent(Published)
		if p.failing.Load() && p.failing.Swap(false) {
			p.log.InfoContext(ctx, "renew intents are published again")
		}
	case ctx.Err() == nil:
		p.observer.Intent(Failed)
		if !p.failing.Swap(true) {
			p.log.WarnContext(ctx, "renew intents cannot be published and are lost", "error", err)
		}
	}
}
