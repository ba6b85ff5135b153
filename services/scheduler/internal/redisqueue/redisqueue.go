// Package redisqueue is a renewintent.Queue on a list in Redis: producers add to its head, consumers take from its tail. It is the form in
// which gateways of OpenSandbox 1.1.1 hand over renew intents.
package redisqueue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/services/scheduler/internal/renewintent"
)

// block is how long one call waits at the server. A call that waits cannot be called back, since the server may hand out an intent at the
// same moment; so the end of the process waits this long at most.
const block = time.Second

// answer is how much longer the server's answer may take.
const answer = 2 * time.Second

// Queue takes intents from a list. It may be used concurrently; each call holds a connection while it waits.
type Queue struct {
	client redis.UniversalClient
	key    string
}

var _ renewintent.Queue = (*Queue)(nil)

// New returns a Queue. The caller owns client and closes it.
func New(client redis.UniversalClient, key string) *Queue { return &Queue{client: client, key: key} }

// Take implements renewintent.Queue.
func (q *Queue) Take(ctx context.Context) ([]byte, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		got, err := q.pop(context.WithoutCancel(ctx))
		switch {
		case errors.Is(err, redis.Nil):
			continue
		case err != nil:
			return nil, fmt.Errorf("take a renew intent: %w", err)
		case len(got) != 2:
			return nil, fmt.Errorf("take a renew intent: redis gave %d values in place of a key and a value", len(got))
		}
		return []byte(got[1]), nil
	}
}

// pop waits for an intent for a while; redis.Nil when none came.
func (q *Queue) pop(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, block+answer)
	defer cancel()
	return q.client.BRPop(ctx, block, q.key).Result()
}
