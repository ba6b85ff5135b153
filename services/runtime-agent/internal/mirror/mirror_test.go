package mirror_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
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
	path := filepath.Join(dir, "m", "a.json")
	read := func() (e mirror.Entry) {
		t.Helper()
		if _, err := m.Step(ctx); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &e)
		}
		if err != nil {
			t.Fatal(err)
		}
		return e
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
	// An agent that died before it removed the file leaves it to the next one.
	if m, err = mirror.Open(filepath.Join(dir, "m"), "n", st, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "m", "unknown.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Step(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove("unknown"); err != nil {
		t.Errorf("a file of a sandbox that the store does not know was not kept: %v", err)
	}
	if err := m.Remove("unknown"); err != nil {
		t.Errorf("a second removal: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "m", "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.json": `{"id":"a","epoch":2,"desired":"running","generation":3,"version":7}`, "b.json": `{"id":"b"`, "c.json": `{"id":"d"}`, "e.json.tmp": `{`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := mirror.Read(dir)
	if err == nil || len(got) != 1 || got["a"].Epoch != 2 || got["a"].Version != 7 {
		t.Errorf("Read = %+v, %v; want one entry and an error about the others", got, err)
	}
	if got, err := mirror.Read(filepath.Join(dir, "none")); err != nil || len(got) != 0 {
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
	if err := os.WriteFile(filepath.Join(dir, "a.json"), []byte(`{"id":"a","version":7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := mirror.Open(dir, "n", st, func(context.Context) (bool, error) { return false, nil })
	if err != nil {
		t.Fatal(err)
	}
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
