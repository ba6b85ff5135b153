// Package memstore implements the ports of packages sandbox and node in memory, for tests and simulation. The same calls with
// the same clock and seed give the same results: nothing depends on the order of a Go map.
//
// It does not survive the process and is not shared between processes.
package memstore

import (
	"context"
	"reflect"
	"sync"
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/wakeup"
)

var (
	_ sandbox.Store = (*Store)(nil)
	_ node.Registry = (*Store)(nil)
)

// Store is a store in memory. All methods may be called concurrently; each one is a single step under one lock and looks at the
// clock once.
type Store struct {
	clock func() time.Time
	seed  uint64
	hub   wakeup.Hub

	mu sync.Mutex
	state
}

// state is everything that Snapshot copies.
type state struct {
	made    time.Time
	records map[sandbox.ID]*entry
	nodes   map[string]node.Node
	// sessions are the last ones of nodes that were forgotten.
	sessions map[string]uint64
	holds    map[holder]sandbox.Resources
	leases   map[lease]holder
	barred   map[lease]time.Time
	keys     map[key]keyed
	// secrets are those of the records that keep one. Their bytes are never changed.
	secrets map[sandbox.ID][]byte
	// changes counts the writes; it orders the work of a node and tells how far the store has come.
	changes uint64
	// since and unreported are those of sandbox.Recovery.
	since      time.Time
	unreported []string
	// draws counts the ports that were drawn.
	draws uint64
	// deadline and attention are not after any deadline and attention time of a record; zero means that there is none.
	deadline, attention time.Time
}

// entry is a record with its places in the indexes. The record is replaced as a whole and never changed in place.
type entry struct {
	rec *sandbox.Record
	// workSince is the change that asked for the present work.
	workSince uint64
	// mirrored is the version that has reached the disk of the record's node.
	mirrored uint64
}

// holder is who holds an amount or a port. Amounts are kept by holder and never counted up or down, so that taking and freeing
// can be repeated.
type holder struct {
	node  string
	id    sandbox.ID
	epoch uint64
}

// lease is a port of a node.
type lease struct {
	node string
	port int
}

// key is an idempotency key, which each tenant has for itself.
type key struct{ tenant, name string }

// keyed is what a key leads to.
type keyed struct {
	hash string
	id   sandbox.ID
	// until is when the key is free again.
	until time.Time
}

// Option changes a new store.
type Option func(*Store)

// WithClock sets the clock of the store; time.Now is the default. It is called under the store's lock.
func WithClock(now func() time.Time) Option { return func(s *Store) { s.clock = now } }

// WithSeed sets the seed of the choice of ports; 0 is the default.
func WithSeed(seed uint64) Option { return func(s *Store) { s.seed = seed } }

// New returns an empty store whose incarnation is the present time of its clock.
func New(opts ...Option) *Store {
	s := &Store{clock: time.Now}
	for _, o := range opts {
		o(s)
	}
	s.state = state{
		made: s.now(), records: map[sandbox.ID]*entry{}, nodes: map[string]node.Node{}, sessions: map[string]uint64{},
		holds: map[holder]sandbox.Resources{}, leases: map[lease]holder{}, barred: map[lease]time.Time{},
		keys: map[key]keyed{}, secrets: map[sandbox.ID][]byte{},
	}
	return s
}

func (s *Store) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }

// Subscribe implements sandbox.Hints.
func (s *Store) Subscribe(t sandbox.Topic) (changed <-chan struct{}, cancel func()) {
	return s.hub.Subscribe(t)
}

// step is one call: the time it happens at and the hints that it leaves.
type step struct {
	now    time.Time
	topics []sandbox.Topic
}

// do runs one step under the lock and gives its hints out afterwards. fn changes nothing before it is sure to succeed.
func (s *Store) do(ctx context.Context, fn func(st *step) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	st := &step{}
	err := func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		st.now = s.now()
		return fn(st)
	}()
	if err == nil {
		s.hub.Publish(st.topics...)
	}
	return err
}

// update applies one guarded transition to a record and returns what it became.
func (s *Store) update(ctx context.Context, id sandbox.ID, fn func(r *sandbox.Record, now time.Time) error) (sandbox.Record, error) {
	var out sandbox.Record
	err := s.do(ctx, func(st *step) error {
		r, err := s.copyOf(id)
		if err != nil {
			return err
		}
		if err := fn(&r, st.now); err != nil {
			return err
		}
		out = s.put(st, r)
		return nil
	})
	return out, err
}

// copyOf returns a copy of a record that may be changed.
func (s *Store) copyOf(id sandbox.ID) (sandbox.Record, error) {
	e, ok := s.records[id]
	if !ok {
		return sandbox.Record{}, sandbox.ErrNotFound(id)
	}
	return e.rec.Clone(), nil
}

// put saves a record with its indexes if it changed, and returns a copy of it.
func (s *Store) put(st *step, r sandbox.Record) sandbox.Record {
	r = r.Clone()
	e := s.records[r.ID]
	var before *sandbox.Record
	if e == nil {
		e = &entry{}
		s.records[r.ID] = e
	} else {
		before = e.rec
		if reflect.DeepEqual(*before, r) {
			return r
		}
		r.Version = before.Version + 1
	}
	s.changes++
	e.rec = &r
	if before != nil && (before.Placement.Node != r.Placement.Node || before.Placement.Epoch != r.Placement.Epoch) {
		e.mirrored = 0
	}
	if before == nil || wakeup.NewWork(before, &r) {
		e.workSince = s.changes
	}
	h := holder{r.Placement.Node, r.ID, r.Placement.Epoch}
	if _, held := s.holds[h]; held && !r.HoldsReservation() {
		s.holds[h] = sandbox.Resources{}
	}
	if r.DropsSecret(before) {
		delete(s.secrets, r.ID)
	}
	st.topics = append(st.topics, wakeup.Of(before, &r)...)
	if d, a := wakeup.Deadline(&r), r.AttentionAt(); wakeup.Earlier(d, s.deadline) || wakeup.Earlier(a, s.attention) {
		s.lower(d, a)
		st.topics = append(st.topics, sandbox.TopicDeadline)
	}
	return r.Clone()
}

func (s *Store) lower(deadline, attention time.Time) {
	if wakeup.Earlier(deadline, s.deadline) {
		s.deadline = deadline
	}
	if wakeup.Earlier(attention, s.attention) {
		s.attention = attention
	}
}

// free gives back all that a holder holds.
func (s *Store) free(h holder) {
	delete(s.holds, h)
	for l, by := range s.leases {
		if by == h {
			delete(s.leases, l)
		}
	}
}
