package beat_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/services/runtime-agent/internal/beat"
)

func TestTheLeaseIsKeptAndGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New()
		n, err := st.Register(t.Context(), node.Registration{Name: "n", EngineID: "e", PortMin: 1, PortMax: 2})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- beat.Beat{Registry: st, Node: "n", Session: n.Session, Log: slog.New(slog.DiscardHandler)}.Run(ctx)
		}()
		live := func() bool {
			all, err := st.Nodes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return all[0].Live(time.Now())
		}
		time.Sleep(10 * node.LeaseTime)
		if !live() {
			t.Error("the lease ran out although it is renewed")
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		if live() {
			t.Error("the lease was not given back")
		}
	})
}

func TestAnAgentThatWasReplacedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New()
		reg := node.Registration{Name: "n", EngineID: "e", PortMin: 1, PortMax: 2, TakeOver: true}
		n, err := st.Register(t.Context(), reg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Register(t.Context(), reg); err != nil {
			t.Fatal(err)
		}
		err = beat.Beat{Registry: st, Node: "n", Session: n.Session, Log: slog.New(slog.DiscardHandler)}.Run(t.Context())
		if err == nil {
			t.Error("an agent without its node went on")
		}
	})
}
