package usecase_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/sandbox"
	"opensandbox/services/api/internal/usecase"
)

// waiter returns a waiter on a store with one sandbox, and what ends its waits.
func waiter(t *testing.T) (usecase.HintedWaiter, *memstore.Store, chan struct{}) {
	t.Helper()
	st := memstore.New()
	if _, err := st.Insert(t.Context(), sandbox.New{ID: "s", Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"e"}}}); err != nil {
		t.Fatal(err)
	}
	draining := make(chan struct{})
	return usecase.HintedWaiter{Store: st, Hints: st, Draining: draining}, st, draining
}

func gone(r *sandbox.Record) bool { return r.Gone() }

func TestAwaitIsWokenByAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, st, _ := waiter(t)
		began := time.Now()
		time.AfterFunc(100*time.Millisecond, func() {
			if _, err := st.SetGone(context.Background(), "s", sandbox.ReasonDeleted); err != nil {
				t.Error(err)
			}
		})
		r, reached, err := w.Await(t.Context(), "s", time.Minute, gone)
		if err != nil || !reached || !r.Gone() || time.Since(began) != 100*time.Millisecond {
			t.Errorf("reached %v after %v, %v", reached, time.Since(began), err)
		}
	})
}

func TestAwaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, draining := waiter(t)
		if _, reached, err := w.Await(t.Context(), "s", time.Second, gone); reached || err != nil {
			t.Errorf("time-out: reached %v, %v", reached, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := w.Await(ctx, "s", time.Minute, gone); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("client gone: %v", err)
		}
		time.AfterFunc(time.Second, func() { close(draining) })
		began := time.Now()
		if r, reached, err := w.Await(t.Context(), "s", time.Minute, gone); reached || err != nil || r.ID != "s" || time.Since(began) != time.Second {
			t.Errorf("drain: reached %v after %v, %v", reached, time.Since(began), err)
		}
	})
}

func TestAwaitOutlastsAStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, st, draining := waiter(t)
		f := newFaulty(st)
		w.Store = f
		f.goAway("Get")
		time.AfterFunc(700*time.Millisecond, func() {
			f.comeBack()
			if _, err := st.SetGone(context.Background(), "s", sandbox.ReasonDeleted); err != nil {
				t.Error(err)
			}
		})
		if r, reached, err := w.Await(t.Context(), "s", time.Minute, gone); err != nil || !reached || !r.Gone() {
			t.Errorf("a store that comes back: reached %v, %v", reached, err)
		}
		f.goAway("Get")
		began := time.Now()
		if _, reached, err := w.Await(t.Context(), "s", 3*time.Second, gone); !fault.Is(err, fault.Unavailable) || reached || time.Since(began) != 3*time.Second {
			t.Errorf("a store that stays away: reached %v after %v, %v", reached, time.Since(began), err)
		}
		time.AfterFunc(time.Second, func() { close(draining) })
		began = time.Now()
		if _, _, err := w.Await(t.Context(), "s", time.Minute, gone); !fault.Is(err, fault.Unavailable) || time.Since(began) != time.Second {
			t.Errorf("drain: %v after %v", err, time.Since(began))
		}
		f.comeBack()
		if _, _, err := w.Await(t.Context(), "unknown", time.Minute, gone); !fault.Is(err, fault.NotFound) {
			t.Errorf("unknown: %v", err)
		}
	})
}
