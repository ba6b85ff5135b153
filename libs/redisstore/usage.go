package redisstore

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/sandbox"
)

// Usage implements sandbox.Placements, in two round trips.
func (s *Store) Usage(ctx context.Context) (map[string]sandbox.Usage, error) {
	names, err := s.client.HKeys(ctx, s.keys.nodes()).Result()
	if err != nil || len(names) == 0 {
		return nil, s.failed("usage", err)
	}
	pipe := s.client.Pipeline()
	used := make([]*redis.SliceCmd, len(names))
	for i, name := range names {
		used[i] = pipe.HMGet(ctx, s.keys.used(name), "count", "cpu", "memory")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, s.failed("usage", err)
	}
	out := make(map[string]sandbox.Usage, len(names))
	for i, name := range names {
		if out[name], err = parseUsage(used[i].Val()); err != nil {
			return nil, s.failed("usage", fmt.Errorf("node %s: %w", name, err))
		}
	}
	return out, nil
}

// parseUsage reads count, processor and memory; what is missing is 0.
func parseUsage(values []any) (sandbox.Usage, error) {
	var numbers [3]int64
	for i, v := range values[:min(len(values), len(numbers))] {
		text, ok := v.(string)
		if !ok {
			continue
		}
		var err error
		if numbers[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return sandbox.Usage{}, err
		}
	}
	return sandbox.Usage{Count: int(numbers[0]), Reserved: sandbox.Resources{CPU: numbers[1], Memory: numbers[2]}}, nil
}
