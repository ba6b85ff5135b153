package redisstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/sandbox"
)

// listenRetry is the pause after the connection for hints broke; it doubles with each attempt, up to listenRetryMax.
const listenRetry, listenRetryMax = 50 * time.Millisecond, time.Second

// Subscribe implements sandbox.Hints. After each reconnect every subscriber gets a hint, because some may have been missed. A topic that
// Config.Topics leaves out gets no other hints, which is a mistake of the program and is logged.
func (s *Store) Subscribe(t sandbox.Topic) (changed <-chan struct{}, cancel func()) {
	if channel, _ := s.keys.channel(t); len(s.channels) > 0 && !slices.Contains(s.channels, channel) {
		s.log.Error("this process does not listen to the hints that a part of it waits for", "topic", t)
	}
	return s.hub.Subscribe(t)
}

// subscription opens a connection for hints.
func (s *Store) subscription(ctx context.Context) *redis.PubSub {
	if len(s.channels) == 0 {
		return s.client.PSubscribe(ctx, literal(s.keys.hints())+"*")
	}
	return s.client.Subscribe(ctx, s.channels...)
}

// literal escapes what is special in a pattern.
func literal(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(s)
}

// quiet is after how long without any message the server is asked whether it is still there; when as much time again passes without an
// answer, the connection is given up: one whose other end vanished would otherwise be silent for ever.
const quiet = 3 * time.Second

// listen starts the loop that hands hints on, and returns when a first subscription stands; each that stands later gives a hint to all.
func (s *Store) listen(ctx, until context.Context) error {
	sub := s.subscription(ctx)
	if _, err := sub.Receive(ctx); err != nil {
		_ = sub.Close()
		return s.failed("subscribe", err)
	}
	s.listening.Go(func() {
		for until.Err() == nil {
			s.hear(until, sub)
			sub = s.subscription(until)
		}
		_ = sub.Close()
	})
	return nil
}

// hear hands hints on until ctx ends or the connection is given up. A connection that breaks is made anew by the client.
func (s *Store) hear(ctx context.Context, sub *redis.PubSub) {
	ended := make(chan struct{})
	closed := context.AfterFunc(ctx, func() {
		_ = sub.Close() // ends the wait below
		close(ended)
	})
	defer func() {
		if closed() {
			_ = sub.Close()
			return
		}
		<-ended
	}()
	failures, asked := 0, false
	for ctx.Err() == nil {
		msg, err := sub.ReceiveTimeout(ctx, quiet)
		switch {
		case err == nil:
			failures, asked = s.heard(ctx, msg, failures), false
		case isTimeout(err) && asked:
			s.log.WarnContext(ctx, "the connection for hints is silent; making another")
			return
		case isTimeout(err):
			asked = true
			_ = sub.Ping(ctx) // one that cannot be sent is not answered
		default:
			s.pause(ctx, failures, err)
			failures++
		}
	}
}

// isTimeout reports whether nothing was received in time.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// pause waits before the next attempt to reach the server, longer with each.
func (s *Store) pause(ctx context.Context, failures int, err error) {
	if failures == 0 && ctx.Err() == nil {
		s.log.WarnContext(ctx, "the connection for hints broke; the store is read at intervals until it is back", "error", err)
	}
	if cluster, ok := s.client.(*redis.ClusterClient); ok {
		cluster.ReloadState(ctx)
	}
	d := min(listenRetry<<min(failures, 10), listenRetryMax)
	select {
	case <-time.After(d/2 + rand.N(d/2)):
	case <-ctx.Done():
	}
}

// heard takes in one message, and returns how many failures there are now since the last subscription.
func (s *Store) heard(ctx context.Context, msg any, failures int) int {
	switch m := msg.(type) {
	case *redis.Subscription:
		if failures > 0 {
			s.log.InfoContext(ctx, "the connection for hints is back")
		}
		// Some may have been missed.
		s.hub.PublishAll()
		return 0
	case *redis.Message:
		s.hub.Publish(s.keys.topic(m.Channel, m.Payload))
	}
	return failures
}
