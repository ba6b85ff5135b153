package converge_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"opensandbox/services/runtime-agent/internal/converge"
)

func TestRemovalsWaitForKills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := converge.NewTurns(1)
		killed, err := g.Kill(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		removed := make(chan struct{})
		go func() {
			defer close(removed)
			leave, err := g.Remove(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			leave()
		}()
		synctest.Wait()
		select {
		case <-removed:
			t.Fatal("a removal began while a kill was in progress")
		default:
		}
		killed()
		<-removed
	})
}

func TestTurnsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := converge.NewTurns(1)
		leave, err := g.Make(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Make(ctx); err == nil {
			t.Error("a second turn was given")
		}
		if k, err := g.Kill(t.Context()); err != nil {
			t.Error("a kill must not wait for creates")
		} else {
			k()
		}
		leave()
		if leave, err = g.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		leave()
	})
}
