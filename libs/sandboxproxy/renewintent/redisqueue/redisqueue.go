// Package redisqueue is a renewintent.Publisher on a list in Redis, in the form that OpenSandbox 1.1.1 consumes.
package redisqueue

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/sandboxproxy/renewintent"
)

// DefaultKey is the list of OpenSandbox 1.1.1.
const DefaultKey = "opensandbox:renew:intent"

// timeout bounds one publication, as in OpenSandbox 1.1.1.
const timeout = 5 * time.Second

// Queue adds intents to the head of a list; consumers take from its tail. It may be used concurrently.
type Queue struct {
	client redis.UniversalClient
	key    string
	maxLen int64
}

var _ renewintent.Publisher = (*Queue)(nil)

// New returns a Queue. The caller owns client and closes it. maxLen bounds the list, the oldest intents go first; 0 means no bound.
func New(client redis.UniversalClient, key string, maxLen int64) *Queue {
	return &Queue{client: client, key: key, maxLen: maxLen}
}

// Publish implements renewintent.Publisher. An error leaves open whether the intent was added.
func (q *Queue) Publish(ctx context.Context, payload []byte) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := q.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.LPush(ctx, q.key, payload)
		if q.maxLen > 0 {
			p.LTrim(ctx, q.key, 0, q.maxLen-1)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("push a renew intent: %w", err)
	}
	return nil
}
