//go:build integration

package redisstore

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
)

// lossy is a way to a server on which answers get lost: the call arrives, and the connection breaks before its answer.
type lossy struct {
	listener net.Listener
	target   string
	// stalled makes the connections that there are now go silent, without closing them.
	stalled atomic.Pointer[time.Time]
	// skip counts down with each answer; the one that finds it at 0 is lost.
	skip atomic.Int64
	wg   sync.WaitGroup
	mu   sync.Mutex
	open []net.Conn
}

func newLossy(t *testing.T, target string) *lossy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &lossy{listener: l, target: target}
	p.skip.Store(-1)
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.open {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *lossy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.open = append(p.open, in, out)
		p.mu.Unlock()
		p.wg.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
		p.wg.Go(func() { p.answers(in, out) })
	}
}

func (p *lossy) answers(in, out net.Conn) {
	defer in.Close()  //nolint:errcheck // it is cut on purpose
	defer out.Close() //nolint:errcheck
	began, buf := time.Now(), make([]byte, 1<<20)
	for {
		n, err := out.Read(buf)
		if err != nil || !hint(buf[:n]) && p.skip.Add(-1) == -1 {
			return
		}
		if since := p.stalled.Load(); since != nil && began.Before(*since) {
			continue
		}
		if _, err := in.Write(buf[:n]); err != nil {
			return
		}
	}
}

// hint reports whether the server says this by itself, in either version of its protocol: such a message is the answer to nothing, and it
// comes at any time.
func hint(b []byte) bool {
	return bytes.HasPrefix(b, []byte(">")) || bytes.HasPrefix(b, []byte("*3\r\n$7\r\nmessage"))
}

// lose loses the answer after so many others.
func (p *lossy) lose(after int64) { p.skip.Store(after) }

func (p *lossy) stall() {
	now := time.Now()
	p.stalled.Store(&now)
}

// A connection for hints whose other end has vanished is given up after a while, and another one made.
func TestSilentHints(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	way := newLossy(t, server.Addr())
	s := open(t, Config{Client: client(t, ClientConfig{Mode: ModeSingle, Addrs: []string{way.listener.Addr().String()}})})
	hints, cancel := s.Subscribe(sandbox.TopicPlacement)
	defer cancel()
	way.stall()
	select {
	case <-hints: // nothing was written: it comes from the new subscription
	case <-time.After(time.Minute):
		t.Error("the silence was not noticed")
	}
}

// A call whose answer got lost is sent anew by the client. It finds what it did itself, and answers as if nothing had been lost.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	server, ctx := redistest.Start(t, redistest.Options{}), t.Context()
	way := newLossy(t, server.Addr())
	s := open(t, Config{Client: client(t, ClientConfig{Mode: ModeSingle, Addrs: []string{way.listener.Addr().String()}})})
	place := func() error {
		r, err := s.Place(ctx, sandbox.PlaceRequest{ID: "a", Ports: []int{1}, Candidates: []sandbox.Candidate{{Node: "n", PortMin: 40000, PortMax: 40009}}})
		if err == nil && r.Placement.Ports[1] < 40000 {
			t.Errorf("ports %v", r.Placement.Ports)
		}
		return err
	}
	value := "v"
	insert := func(id sandbox.ID, key sandbox.Key) func() error {
		return func() error {
			r, err := s.Insert(ctx, sandbox.New{ID: id, Tenant: "t", Spec: sandboxtest.Spec(time.Hour), Key: key})
			if err == nil && (r.ID != id || r.CreatedAt.IsZero() || r.Intent.ExpiresAt.IsZero()) {
				t.Errorf("inserted %+v", r)
			}
			return err
		}
	}
	for _, tc := range []struct {
		name string
		// reads is how many answers come before the one that is lost, which is that of the write.
		reads int64
		do    func() error
	}{
		{"register", 2, func() error {
			_, err := s.Register(ctx, node.Registration{Name: "n", EngineID: "e", PortMin: 40000, PortMax: 40009})
			return err
		}},
		{"insert", 0, insert("a", sandbox.Key{})},
		{"insert with a key", 0, insert("b", sandbox.Key{Name: "k", Hash: "h"})},
		{"accept", 0, func() error { _, err := s.Accept(ctx, "a"); return err }},
		{"renew", 0, func() error { _, err := s.Renew(ctx, "a", "t", time.Now().Add(2*time.Hour)); return err }},
		{"place", 1, place},
		{"report", 1, func() error {
			_, err := s.Report(ctx, sandbox.Report{ID: "a", Node: "n", Epoch: 1, Session: 1, Generation: 1, State: sandbox.StateRunning})
			return err
		}},
		{"set desired", 1, func() error { _, err := s.SetDesired(ctx, "a", sandbox.DesiredPaused, 1); return err }},
		{"patch metadata", 1, func() error { _, err := s.PatchMetadata(ctx, "a", "t", map[string]*string{"k": &value}); return err }},
		{"list", 0, func() error { _, err := s.List(ctx, sandbox.Query{Tenant: "t", Limit: 1}); return err }},
		{"nodes", 0, func() error { _, err := s.Nodes(ctx); return err }},
		{"extend", 1, func() error { _, err := s.Extend(ctx, "b", time.Now().Add(4*time.Hour)); return err }},
		{"drain", 2, func() error { return s.SetDraining(ctx, "n", true) }},
		{"renew lease", 1, func() error { return s.RenewLease(ctx, "n", 1) }},
		{"images", 0, func() error { return s.SetImages(ctx, "n", 1, []string{"i"}) }},
		{"set gone", 1, func() error { _, err := s.SetGone(ctx, "a", sandbox.ReasonDeleted); return err }},
		{"cleaned", 1, func() error { return s.Cleaned(ctx, sandbox.Cleaned{ID: "a", Node: "n", Epoch: 1, Session: 1}) }},
		{"remove", 2, func() error { return s.Remove(ctx, "n") }},
		{"forget", 3, func() error { return s.Forget(ctx, "n") }},
	} {
		way.lose(tc.reads)
		if err := tc.do(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if left := way.skip.Load(); left >= 0 {
			t.Errorf("%s: no answer was lost, %d too few came", tc.name, left+1)
		}
		sound(t, s)
	}
	if r, err := s.Get(ctx, "a"); err != nil || !r.Ended() || r.Intent.Generation != 3 || r.Version != 9 {
		t.Errorf("in the end: %+v, %v", r, err)
	}
	if err := insert("b", sandbox.Key{})(); !fault.Is(err, fault.Conflict) {
		t.Errorf("another insert of the same id: %v", err)
	}
}
