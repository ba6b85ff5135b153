package converge_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/converge"
)

// newer is a store that cannot read some records, which a newer version of the program wrote.
type newer struct {
	*memstore.Store
	unread map[sandbox.ID]bool
}

func errNewer(id sandbox.ID) error {
	return fault.New(fault.Internal, "the record was written by another version").WithCode(sandbox.CodeNewerRecord).About(string(id))
}

func (n newer) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	if n.unread[id] {
		return sandbox.Record{}, errNewer(id)
	}
	return n.Store.Get(ctx, id)
}

func (n newer) OnNode(ctx context.Context, name string) ([]sandbox.Record, error) {
	all, err := n.Store.OnNode(ctx, name)
	if err != nil {
		return nil, err
	}
	var ids []sandbox.ID
	out := slices.DeleteFunc(all, func(r sandbox.Record) bool {
		if n.unread[r.ID] {
			ids = append(ids, r.ID)
		}
		return n.unread[r.ID]
	})
	if len(ids) > 0 {
		return out, &sandbox.Unread{IDs: ids, Because: errNewer(ids[0])}
	}
	return out, nil
}

// TestRecordsOfANewerVersionAreLeftAlone: the comparison goes on without them, and nothing that belongs to them is removed.
func TestRecordsOfANewerVersionAreLeftAlone(t *testing.T) {
	t.Parallel()
	r, w := emptyRig(t), &witness{}
	var log strings.Builder
	store := newer{r.store, map[sandbox.ID]bool{"here": true, "elsewhere": true}}
	n, err := r.store.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.conv = converge.New(converge.Config{Node: "n", Session: n[0].Session, RetainFailed: time.Hour, ReadyTimeout: 10 * time.Second,
		Token: func(sandbox.ID, uint64) string { return "" }, Log: slog.New(slog.NewTextHandler(&log, nil))},
		converge.Deps{Store: store, Executor: r.engine, Observe: w})
	r.insert("here", "run")
	r.insert("read", "run")
	r.now = r.now.Add(time.Second)
	// An older epoch of the one, one whose record is not of this node, and one that nobody knows.
	for _, id := range []sandbox.ID{"here", "elsewhere", "garbage"} {
		r.engine.Put(executor.Plan{Ref: executor.Ref{ID: id, Epoch: 7}, CreatedAt: r.now}, executor.Running)
	}
	k := converge.NewComparer(r.conv)
	for range 3 {
		ids, _, err := k.Compare(t.Context(), r.now)
		if err != nil || !slices.Equal(ids, []sandbox.ID{"read"}) {
			t.Errorf("the comparison asks for %v, %v", ids, err)
		}
		r.now = r.now.Add(converge.SecondLook)
	}
	left, err := r.engine.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var have []sandbox.ID
	for _, in := range left {
		have = append(have, in.ID)
	}
	slices.Sort(have)
	if !slices.Equal(have, []sandbox.ID{"elsewhere", "here"}) {
		t.Errorf("the engine has %v left", have)
	}
	for what, times := range map[string]int{"difference unread": 6, "garbage": 1} {
		if got := len(slices.DeleteFunc(slices.Clone(w.told), func(s string) bool { return s != what })); got != times {
			t.Errorf("%q is told %d times, want %d", what, got, times)
		}
	}
	if got := strings.Count(log.String(), "newer version"); got != 2 {
		t.Errorf("the log says it %d times:\n%s", got, &log)
	}
	// Read again, they are compared as all others.
	clear(store.unread)
	if ids, _, err := k.Compare(t.Context(), r.now); err != nil || !slices.Contains(ids, "here") {
		t.Errorf("after the update the comparison asks for %v, %v", ids, err)
	}
}
