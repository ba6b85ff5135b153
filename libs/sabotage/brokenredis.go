//go:build sabotage

package sabotage

import (
	"context"
	"fmt"
	"time"

	"opensandbox/libs/sandbox"
)

// Command carries out one command on Redis.
type Command func(ctx context.Context, words ...any) error

// brokenRedis puts back what the store has taken away. base begins the names of all keys that are about records, as redisstore makes them.
type brokenRedis struct {
	Ports
	promise, base string
	do            Command
}

func (b brokenRedis) Cleaned(ctx context.Context, c sandbox.Cleaned) error {
	r, err := b.Get(ctx, c.ID)
	if err != nil {
		return err
	}
	if err := b.Ports.Cleaned(ctx, c); err != nil {
		return err
	}
	switch id := string(c.ID); b.promise {
	case KeptPort:
		for _, port := range r.Placement.Ports {
			if err := b.do(ctx, "HSET", b.base+"ports:"+c.Node, port, fmt.Sprintf("%s:%d", id, c.Epoch)); err != nil {
				return err
			}
		}
		return nil
	case KeptSecret:
		return b.do(ctx, "SET", b.base+"secret:"+id, "sealed")
	case KeptDeadline:
		return b.do(ctx, "ZADD", b.base+"deadlines", time.Now().Add(time.Hour).UnixMilli(), id)
	default:
		return b.do(ctx, "SET", b.base+"kept:"+id, "kept")
	}
}
