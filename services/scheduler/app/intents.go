package app

import (
	"context"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/fault"
	"opensandbox/services/scheduler/internal/redisqueue"
)

// intentQueueSize is that of the queue of OpenSandbox 1.1.1's router.
const intentQueueSize = 8192

// IntentQueue hands renew intents from a router to a scheduler of the same process. It may be used concurrently. Use NewIntentQueue.
type IntentQueue struct{ waiting chan []byte }

var _ IntentSource = (*IntentQueue)(nil)

// NewIntentQueue returns an empty queue.
func NewIntentQueue() *IntentQueue { return &IntentQueue{make(chan []byte, intentQueueSize)} }

// Publish adds an intent in the JSON form of OpenSandbox 1.1.1, and never blocks: fault.Exhausted when the queue is full.
func (q *IntentQueue) Publish(_ context.Context, payload []byte) error {
	select {
	case q.waiting <- payload:
		return nil
	default:
		return fault.New(fault.Exhausted, "the queue of renew intents is full")
	}
}

// Take implements IntentSource.
func (q *IntentQueue) Take(ctx context.Context) ([]byte, error) {
	select {
	case payload := <-q.waiting:
		return payload, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// RedisIntents returns the intents that routers and gateways write to a Redis list. The caller owns client and closes it after the parts
// have ended; it needs a connection for each worker.
func RedisIntents(client redis.UniversalClient, key string) IntentSource {
	return redisqueue.New(client, key)
}
