// Package resolvetest has a store with switches and the few moves of a sandbox's life that routers care about, for tests.
package resolvetest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// NodeName is the node that a Store has from the beginning.
const NodeName = "n1"

const portMin, portMax = 40000, 49999

// Store is a store in memory whose reads can be made to fail, counted and held up.
type Store struct {
	*memstore.Store
	// Away makes Get, Now and Nodes fail.
	Away atomic.Bool
	// Gets counts the calls of Get, failed ones too.
	Gets atomic.Int64
	// BeforeGet, if set, runs in each Get before the record is read, AfterGet after that. Set them before the first read.
	BeforeGet, AfterGet func()

	sessions map[string]uint64
}

// New returns a store with one live node whose leased ports are reached at host.
func New(t testing.TB, host string) *Store {
	t.Helper()
	s := &Store{Store: memstore.New(), sessions: map[string]uint64{}}
	s.Join(t, NodeName, host)
	return s
}

// Join adds a live node whose leased ports are reached at host.
func (s *Store) Join(t testing.TB, name, host string) {
	t.Helper()
	n, err := s.Register(context.Background(), node.Registration{Name: name, EngineID: "engine of " + name, PortMin: portMin, PortMax: portMax, Host: host})
	if err != nil {
		t.Fatal(err)
	}
	s.sessions[name] = n.Session
}

// Stop ends the lease of a node.
func (s *Store) Stop(t testing.TB, name string) {
	t.Helper()
	if err := s.Release(context.Background(), name, s.sessions[name]); err != nil {
		t.Fatal(err)
	}
}

// Move gives up a sandbox with its node, and runs it on another one.
func (s *Store) Move(t testing.TB, id sandbox.ID, to string, ports map[int]int) {
	t.Helper()
	r, err := s.Store.Get(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(context.Background(), r.Placement.Node); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lose(context.Background(), sandbox.Loss{ID: id, Node: r.Placement.Node, Epoch: r.Placement.Epoch, RetainFor: time.Hour}); err != nil {
		t.Fatal(err)
	}
	s.place(t, id, to, ports)
}

func (s *Store) broken() error {
	if s.Away.Load() {
		return fault.New(fault.Unavailable, "the store is away")
	}
	return nil
}

// Get implements sandbox.Queries.
func (s *Store) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	s.Gets.Add(1)
	if s.BeforeGet != nil {
		s.BeforeGet()
	}
	if err := s.broken(); err != nil {
		return sandbox.Record{}, err
	}
	r, err := s.Store.Get(ctx, id)
	if s.AfterGet != nil {
		s.AfterGet()
	}
	return r, err
}

// Now implements sandbox.Queries.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if err := s.broken(); err != nil {
		return time.Time{}, err
	}
	return s.Store.Now(ctx)
}

// Nodes implements node.Registry.
func (s *Store) Nodes(ctx context.Context) ([]node.Node, error) {
	if err := s.broken(); err != nil {
		return nil, err
	}
	return s.Store.Nodes(ctx)
}

// RenewNode renews the lease of the node.
func (s *Store) RenewNode(t testing.TB) {
	t.Helper()
	if err := s.RenewLease(context.Background(), NodeName, s.sessions[NodeName]); err != nil {
		t.Fatal(err)
	}
}

// InsertPending adds a sandbox that has no node.
func (s *Store) InsertPending(t testing.TB, id sandbox.ID) {
	t.Helper()
	spec := sandbox.Spec{Image: "image", Entrypoint: []string{"true"}, Replace: true}
	if _, err := s.Insert(context.Background(), sandbox.New{ID: id, Spec: spec, Accepted: true}); err != nil {
		t.Fatal(err)
	}
}

// Run adds a sandbox that runs with these published ports, by container port.
func (s *Store) Run(t testing.TB, id sandbox.ID, ports map[int]int) {
	t.Helper()
	s.RunOn(t, id, NodeName, ports)
}

// RunOn is Run on a node of that name.
func (s *Store) RunOn(t testing.TB, id sandbox.ID, name string, ports map[int]int) {
	t.Helper()
	s.InsertPending(t, id)
	s.place(t, id, name, ports)
}

func (s *Store) place(t testing.TB, id sandbox.ID, name string, ports map[int]int) {
	t.Helper()
	c := sandbox.Candidate{Node: name, PortMin: portMin, PortMax: portMax}
	if _, err := s.Place(context.Background(), sandbox.PlaceRequest{ID: id, Candidates: []sandbox.Candidate{c}}); err != nil {
		t.Fatal(err)
	}
	s.See(t, id, sandbox.StateRunning, ports)
}

// See reports what the agent of its node saw of a sandbox. Without ports the known ones stay.
func (s *Store) See(t testing.TB, id sandbox.ID, st sandbox.State, ports map[int]int) {
	t.Helper()
	r, err := s.Store.Get(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Report(context.Background(), sandbox.Report{
		ID: id, Node: r.Placement.Node, Epoch: r.Placement.Epoch, Session: s.sessions[r.Placement.Node], Generation: r.Intent.Generation,
		State: st, Addresses: sandbox.Addresses{Ports: ports},
	})
	if err != nil {
		t.Fatal(err)
	}
}
