package inventory_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/services/runtime-agent/internal/inventory"
)

// counted counts what is told, and fails on demand.
type counted struct {
	*memstore.Store
	told int
	fail error
}

func (c *counted) SetImages(ctx context.Context, name string, session uint64, images []string) error {
	if c.fail != nil {
		return c.fail
	}
	c.told++
	return c.Store.SetImages(ctx, name, session, images)
}

func TestImagesAreToldWhenTheyChange(t *testing.T) {
	t.Parallel()
	st, e := &counted{Store: memstore.New()}, fakeexec.New("e", time.Now)
	n, err := st.Register(t.Context(), node.Registration{Name: "n", EngineID: "e", TakeOver: true})
	if err != nil {
		t.Fatal(err)
	}
	i := inventory.New(e, st, "n", n.Session)
	for step, c := range []struct {
		images []string
		fail   error
		told   int
	}{
		{nil, nil, 1}, // a node that is new here may have told of others in an earlier life
		{nil, nil, 1},
		{[]string{"b", "a", "a"}, errors.New("away"), 1},
		{[]string{"b", "a", "a"}, nil, 2},
		{[]string{"a", "b"}, nil, 2},
		{[]string{"a"}, nil, 3},
	} {
		e.SetFacts(executor.Facts{Images: c.images})
		st.fail = c.fail
		if _, err := i.Step(t.Context()); !errors.Is(err, c.fail) || st.told != c.told {
			t.Errorf("step %d: %v, told %d times, want %d", step, err, st.told, c.told)
		}
	}
	all, err := st.Nodes(t.Context())
	if err != nil || !slices.Equal(all[0].Images, []string{"a"}) {
		t.Errorf("%v, %v", all, err)
	}
	i.Pulled()
	i.Pulled()
	<-i.Hint()
}

func TestAnAgentThatWasReplacedTellsNothing(t *testing.T) {
	t.Parallel()
	st, e := memstore.New(), fakeexec.New("e", time.Now)
	e.SetFacts(executor.Facts{Images: []string{"a"}})
	reg := node.Registration{Name: "n", EngineID: "e", TakeOver: true}
	n, err := st.Register(t.Context(), reg)
	if err == nil {
		_, err = st.Register(t.Context(), reg)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := inventory.New(e, st, "n", n.Session).Step(t.Context()); err != nil {
		t.Errorf("Step = %v", err)
	}
	if all, err := st.Nodes(t.Context()); err != nil || len(all[0].Images) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}
