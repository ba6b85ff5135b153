package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"opensandbox/libs/lifecycle"
)

func TestStopsInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		var g lifecycle.Group
		for _, name := range []string{"a", "b", "c"} {
			g.Add(name, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second) // the ones below must wait for this
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
				return nil
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		if err := g.Run(ctx); err != nil {
			t.Errorf("Run = %v", err)
		}
		if want := []string{"c", "b", "a"}; !slices.Equal(order, want) {
			t.Errorf("stopped %v, want %v", order, want)
		}
	})
}

func TestFirstEndStopsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		var g lifecycle.Group
		g.Add("well", func(ctx context.Context) error { <-ctx.Done(); return nil })
		g.Add("ill", func(context.Context) error { time.Sleep(time.Second); return broken })
		g.Add("late", func(ctx context.Context) error { <-ctx.Done(); return errors.New("second") })
		err := g.Run(t.Context())
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "ill: ") {
			t.Errorf("Run = %v, want the error of ill with its name", err)
		}
	})
}
