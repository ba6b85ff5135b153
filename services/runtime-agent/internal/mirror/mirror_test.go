package mirror_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/mirror"
)

func TestMirrorFollowsTheIntent(t *testing.T) {
	t.Parallel()
	ctx, st, dir := t.Context(), memstore.New(), t.TempDir()
	n, err := st.Register(ctx, node.Registration{Name: "n", EngineID: "e", PortMin: 1, PortMax: 9})
	if err != nil {
		t.Fatal(err)
	}
	m, err := mirror.Open(filepath.Join(dir, "m"), "n", st, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Insert(ctx, sandbox.New{ID: "a", Metadata: map[string]string{"k": "v"}, Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"e"}, Timeout: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Place(ctx, sandbox.PlaceRequest{ID: "a", Candidates: []sandbox.Candidate{{Node: "n", PortMin: 1, PortMax: 9}}}); err != nil {
		t.Fatal(err)
	}
	read := func() (e mirror.Entry) {
		t.Helper()
		if _, err := m.Step(ctx); err != nil {
			t.Fatal(err)
		}
		entries, err := mirror.Read(filepath.Join(dir, "m"))
		if err != nil {
			t.Fatal(err)
		}
		return entries["a"]
	}
	if e := read(); e.ID != "a" || e.Epoch != 1 || e.Metadata["k"] != "v" || e.Desired != sandbox.DesiredRunning {
		t.Errorf("entry %+v", e)
	}
	at := time.Now().Add(3 * time.Hour).UTC().Truncate(time.Microsecond)
	if _, err := st.Renew(ctx, "a", sandbox.AnyTenant, at); err != nil {
		t.Fatal(err)
	}
	if e := read(); !e.ExpiresAt.Equal(at) {
		t.Errorf("deadline %v after the renewal, want %v", e.ExpiresAt, at)
	}
	if _, err := st.SetGone(ctx, "a", sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	if err := st.Cleaned(ctx, sandbox.Cleaned{ID: "a", Node: "n", Epoch: 1, Session: n.Session}); err != nil {
		t.Fatal(err)
	}
	// An agent that died before it removed the entry leaves it to the next one, which also keeps what the store does not know.
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "m"), `{"id":"unknown","epoch":1}`+"\n", os.O_APPEND)
	if m, err = mirror.Open(filepath.Join(dir, "m"), "n", st, nil); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.Step(ctx); err != nil {
		t.Fatal(err)
	}
	entries, err := mirror.Read(filepath.Join(dir, "m"))
	if _, kept := entries["unknown"]; err != nil || len(entries) != 1 || !kept {
		t.Errorf("the mirror has %v, %v; want only what the store does not know", entries, err)
	}
	for range 2 {
		if err := m.Remove("unknown"); err != nil {
			t.Error(err)
		}
	}
	if entries, err := mirror.Read(filepath.Join(dir, "m")); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func write(t *testing.T, dir, text string, flag int) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "journal"), os.O_CREATE|os.O_WRONLY|flag, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	const a, b = `{"id":"a","epoch":2,"generation":3}`, `{"id":"b","epoch":1}`
	for name, tc := range map[string]struct {
		text string
		want map[sandbox.ID]uint64
		bad  bool
	}{
		"nothing":              {"", map[sandbox.ID]uint64{}, false},
		"the last one counts":  {a + "\n" + b + "\n" + `{"id":"a","epoch":3}` + "\n", map[sandbox.ID]uint64{"a": 3, "b": 1}, false},
		"one is removed":       {a + "\n" + b + "\n" + `{"id":"a","removed":true}` + "\n", map[sandbox.ID]uint64{"b": 1}, false},
		"the end was not made": {a + "\n" + b[:7], map[sandbox.ID]uint64{"a": 2}, false},
		"something else":       {"x\n" + a + "\n", map[sandbox.ID]uint64{"a": 2}, true},
		"no id":                {"{}\n" + a + "\n", map[sandbox.ID]uint64{"a": 2}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, tc.text, 0)
			entries, err := mirror.Read(dir)
			if (err != nil) != tc.bad {
				t.Errorf("error %v", err)
			}
			got := map[sandbox.ID]uint64{}
			for id, e := range entries {
				got[id] = e.Epoch
			}
			if !maps.Equal(got, tc.want) {
				t.Errorf("entries %v, want %v", got, tc.want)
			}
			// What was good goes on, in a file that is good again.
			m, err := mirror.Open(dir, "n", memstore.New(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if again, err := mirror.Read(dir); err != nil || len(again) != len(tc.want) {
				t.Errorf("after Open: %v, %v", again, err)
			}
		})
	}
	if got, err := mirror.Read(filepath.Join(t.TempDir(), "none")); err != nil || len(got) != 0 {
		t.Errorf("Read of nothing = %v, %v", got, err)
	}
}

func TestAStoreThatIsNotBelievedChangesNothing(t *testing.T) {
	t.Parallel()
	ctx, st, dir := t.Context(), memstore.New(), t.TempDir()
	if _, err := st.Register(ctx, node.Registration{Name: "n", EngineID: "e", PortMin: 1, PortMax: 9}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Insert(ctx, sandbox.New{ID: "a", Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"e"}}}); err != nil {
		t.Fatal(err)
	}
	write(t, dir, `{"id":"a","version":7}`+"\n", 0)
	m, err := mirror.Open(dir, "n", st, func(context.Context, []sandbox.Record) (bool, error) { return false, nil })
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	// The record has no node: a mirror that believed the store would remove the file, and later write an older one.
	for range 2 {
		if _, err := m.Step(ctx); err != nil {
			t.Fatal(err)
		}
		if got, err := mirror.Read(dir); err != nil || got["a"].Version != 7 {
			t.Errorf("the mirror has %+v, %v", got, err)
		}
		if _, err := st.Place(ctx, sandbox.PlaceRequest{ID: "a", Candidates: []sandbox.Candidate{{Node: "n", PortMin: 1, PortMax: 9}}}); err != nil && !sandbox.IsStale(err) {
			t.Fatal(err)
		}
	}
}

// A journal does not grow with the number of changes.
func TestTheJournalIsWrittenAnew(t *testing.T) {
	t.Parallel()
	ctx, st, dir := t.Context(), memstore.New(), t.TempDir()
	if _, err := st.Register(ctx, node.Registration{Name: "n", EngineID: "e", PortMin: 1, PortMax: 9}); err != nil {
		t.Fatal(err)
	}
	long := map[string]string{"LONG": strings.Repeat("x", 100_000)}
	if _, err := st.Insert(ctx, sandbox.New{ID: "a", Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"e"}, Env: long, Timeout: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Place(ctx, sandbox.PlaceRequest{ID: "a", Candidates: []sandbox.Candidate{{Node: "n", PortMin: 1, PortMax: 9}}}); err != nil {
		t.Fatal(err)
	}
	m, err := mirror.Open(dir, "n", st, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	at := time.Now().Add(2 * time.Hour).UTC().Truncate(time.Second)
	for i := range 100 {
		if _, err := st.Renew(ctx, "a", sandbox.AnyTenant, at.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "journal"))
	if err != nil || info.Size() > 2<<20 {
		t.Errorf("the journal has %d bytes, %v", info.Size(), err)
	}
	entries, err := mirror.Read(dir)
	if err != nil || !entries["a"].ExpiresAt.Equal(at.Add(99*time.Second)) {
		t.Errorf("deadline %v, %v", entries["a"].ExpiresAt, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("{\"id\":\"a\"}\n{\"id\":\"a\",\"removed\":true}\n"))
	f.Add([]byte("{\"id\":\"a\",\"metadata\":{\"k\":\"v\"}}\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "journal"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		before, _ := mirror.Read(dir)
		m, err := mirror.Open(dir, "n", memstore.New(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if after, err := mirror.Read(dir); err != nil || len(after) != len(before) {
			t.Errorf("%d entries, %d after Open, %v", len(before), len(after), err)
		}
	})
}
