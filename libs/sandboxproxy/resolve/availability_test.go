package resolve_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandboxproxy/resolve"
	"opensandbox/libs/sandboxproxy/resolve/resolvetest"
)

// tally counts by word.
type tally struct {
	mu  sync.Mutex
	got map[string]int
}

func (c *tally) Resolved(source string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got == nil {
		c.got = map[string]int{}
	}
	c.got[source]++
}

func TestSourcesAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := resolvetest.New(t, "")
		s.Run(t, "sb", map[int]int{44772: 40001})
		s.Run(t, "other", map[int]int{44772: 40002})
		var seen tally
		r, err := resolve.New(config, resolve.Deps{Queries: s, Hints: s, Nodes: s, Observer: &seen, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			outcome(r, "sb", 80)
		}
		outcome(r, "unknown", 80)
		s.Away.Store(true)
		outcome(r, "sb", 80) // not too old yet: nobody has noticed
		outcome(r, "other", 80)
		outcome(r, "sb", 80)
		if diff := cmp.Diff(map[string]int{"store": 2, "cache": 3, "stale": 1, "none": 1}, seen.got); diff != "" {
			t.Errorf("sources (-want +got):\n%s", diff)
		}
	})
}

func TestReady(t *testing.T) {
	t.Parallel()
	for name, known := range map[string]bool{"nothing is known": false, "something is known": true} {
		synctest.Test(t, func(t *testing.T) {
			s := resolvetest.New(t, "")
			s.Run(t, "sb", map[int]int{44772: 40001})
			r := newResolver(t, s, config, nil)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			if known {
				outcome(r, "sb", 80)
			}
			time.Sleep(5 * time.Second)
			if err := r.Ready(); err != nil {
				t.Errorf("%s: with the store: %v", name, err)
			}
			s.Away.Store(true)
			time.Sleep(2 * time.Second) // nobody asks, and it is noticed all the same
			if err := r.Ready(); (err == nil) != known {
				t.Errorf("%s: without the store: %v", name, err)
			}
			time.Sleep(config.StoreAway)
			if err := r.Ready(); err == nil {
				t.Errorf("%s: ready although known addresses are given up", name)
			}
			s.Away.Store(false)
			time.Sleep(time.Second)
			if err := r.Ready(); err != nil {
				t.Errorf("%s: with the store back: %v", name, err)
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run = %v", err)
			}
		})
	}
}

// foreign is a store whose records another version has written.
type foreign struct{ *resolvetest.Store }

func (f foreign) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	if id == "foreign" {
		f.Gets.Add(1)
		return sandbox.Record{}, fault.New(fault.Internal, "the record was written by another version of this program")
	}
	return f.Store.Get(ctx, id)
}

// A record that cannot be read says nothing about the store: others are found.
func TestARecordThatCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := foreign{resolvetest.New(t, "")}
		s.Run(t, "sb", map[int]int{44772: 40001})
		var log bytes.Buffer
		r, err := resolve.New(config, resolve.Deps{Queries: s, Hints: s, Nodes: s, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			check(t, "foreign", outcome(r, "foreign", 80), notRunning+"its record cannot be read (after 1s)")
			check(t, "another", outcome(r, "sb", 44772), "127.0.0.1:40001")
		}
		if n := strings.Count(log.String(), "a record cannot be read"); n != 1 || s.Gets.Load() != 2 {
			t.Errorf("logged %d times, read %d times:\n%s", n, s.Gets.Load(), &log)
		}
		if err := r.Ready(); err != nil || strings.Contains(log.String(), "the store does not answer") {
			t.Errorf("ready: %v, log:\n%s", err, &log)
		}
	})
}

// While the store is away, ids that strangers make up do not push out known ones.
func TestUnknownIDsWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := resolvetest.New(t, "")
		s.Run(t, "sb", map[int]int{44772: 40001})
		cfg := config
		cfg.Size = 2
		r := newResolver(t, s, cfg, nil)
		outcome(r, "sb", 44772)
		s.Away.Store(true)
		for _, id := range []sandbox.ID{"a", "b", "c", "d"} {
			check(t, string(id), outcome(r, id, 80), notRunning+"the store does not answer (after 1s)")
		}
		check(t, "known", outcome(r, "sb", 44772), "127.0.0.1:40001")
	})
}

// A sandbox that nobody asks for is not forgotten while the store is away, but afterwards.
func TestNothingIsForgottenWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := resolvetest.New(t, "")
		s.Run(t, "sb", map[int]int{44772: 40001})
		cfg := config
		cfg.StoreAway = 10 * time.Minute
		r := newResolver(t, s, cfg, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		outcome(r, "sb", 44772)
		s.Away.Store(true)
		time.Sleep(cfg.StoreAway - time.Second)
		check(t, "nearly as long as it may be used", outcome(r, "sb", 44772), "127.0.0.1:40001")
		if err := r.Ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
		s.Away.Store(false)
		time.Sleep(5 * time.Minute)
		s.Away.Store(true)
		check(t, "after it was forgotten", outcome(r, "sb", 44772), notRunning+"the store does not answer (after 1s)")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}
