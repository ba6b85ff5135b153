package redisstore

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/sandbox"
)

// Secret implements sandbox.Secrets.
func (s *Store) Secret(ctx context.Context, id sandbox.ID) ([]byte, error) {
	sealed, err := s.client.Get(ctx, s.keys.secret(id)).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return sealed, s.failed("secret", err)
}
