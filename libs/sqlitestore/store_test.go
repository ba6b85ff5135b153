package sqlitestore

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
)

func TestInstallation(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path)
	if id, err := s.Installation(ctx); id != "" || err != nil {
		t.Errorf("new store: %q, %v", id, err)
	}
	if err := s.BindInstallation(ctx, ""); !fault.Is(err, fault.Invalid) {
		t.Errorf("empty id: %v", err)
	}
	for range 2 {
		if err := s.BindInstallation(ctx, "one"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	err := s.BindInstallation(ctx, "two")
	if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.TextOf(err), `"one"`) || !strings.Contains(fault.TextOf(err), `"two"`) {
		t.Errorf("other id: %v", err)
	}
	if id, err := s.Installation(ctx); id != "one" || err != nil {
		t.Errorf("bound store: %q, %v", id, err)
	}
}

func TestClosedStore(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	fill(t, s)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for what, try := range map[string]func() error{
		"Get":          func() error { _, err := s.Get(ctx, "running"); return err },
		"List":         func() error { _, err := s.List(ctx, sandbox.Query{Limit: 1}); return err },
		"Insert":       func() error { _, err := s.Insert(ctx, sandbox.New{ID: "x"}); return err },
		"Work":         func() error { _, err := s.Work(ctx, "n", 1); return err },
		"NextDeadline": func() error { _, _, err := s.NextDeadline(ctx); return err },
		"Nodes":        func() error { _, err := s.Nodes(ctx); return err },
		"Now":          func() error { _, err := s.Now(ctx); return err },
		"Incarnation":  func() error { _, err := s.Incarnation(ctx); return err },
		"Mirrored":     func() error { return s.Mirrored(ctx, "n", nil) },
	} {
		if err := try(); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestWriterIsWaitedForUntilTheCallerGoes(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	s.write <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := s.Insert(ctx, sandbox.New{ID: "x"}); done <- err }()
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("got %v", err)
	}
	<-s.write
	if _, err := s.Get(t.Context(), "x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the given up insert: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	fill(t, s)
	// A bound on the pages gives the error of a full disk.
	var pages int
	if err := s.conn.QueryRowContext(ctx, `PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := s.conn.ExecContext(ctx, fmt.Sprintf(`PRAGMA max_page_count = %d`, pages)); err != nil {
		t.Fatal(err)
	}
	page, err := s.List(ctx, sandbox.Query{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	made := page.Total - 1 // the last one fails
	for i := 0; err == nil && i < 1000; i++ {
		made++
		_, err = s.Insert(ctx, sandbox.New{ID: sandbox.ID(fmt.Sprintf("x%d", i)), Spec: sandboxtest.Spec(time.Hour)})
	}
	if !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != sandbox.CodeStoreFull || fault.RetryAfterOf(err) == 0 ||
		!strings.Contains(fault.TextOf(err), "disk of the store is full; nothing was changed") {
		t.Errorf("full disk: %v", err)
	}
	if page, err := s.List(ctx, sandbox.Query{Limit: 1}); err != nil || page.Total != made {
		t.Errorf("%d visible records, %v; want %d", page.Total, err, made)
	}
	want := read(t, s)
	if _, err := s.conn.ExecContext(ctx, `PRAGMA max_page_count = 1000000`); err != nil {
		t.Fatal(err)
	}
	same(t, "reads", read(t, s), want)
	if _, err := s.Insert(ctx, sandbox.New{ID: "after", Spec: sandboxtest.Spec(time.Hour)}); err != nil {
		t.Errorf("after there was room again: %v", err)
	}
}

func TestPragmas(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "1", "foreign_keys": "0", "busy_timeout": "5000"} {
		var got string
		if err := s.conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", pragma, got, err, want)
		}
	}
	if _, err := s.reader.ExecContext(t.Context(), `DELETE FROM osb_sandbox`); err == nil {
		t.Error("a connection that reads could write")
	}
}

// TestCacheFollowsTheFile checks that what was read before a commit does not get into the cache after it.
func TestCacheFollowsTheFile(t *testing.T) {
	t.Parallel()
	c, err := newCache(2)
	if err != nil {
		t.Fatal(err)
	}
	old, fresh := &sandbox.Record{ID: "a", Version: 1}, &sandbox.Record{ID: "a", Version: 2}
	_, count := c.get("a")
	c.commit(map[sandbox.ID]*sandbox.Record{"a": fresh}, nil)
	c.fill(old, count)
	if got, _ := c.get("a"); got != fresh {
		t.Errorf("got version %d", got.Version)
	}
	_, count = c.get("a")
	c.commit(nil, []sandbox.ID{"a"})
	c.fill(old, count)
	if got, _ := c.get("a"); got != nil {
		t.Errorf("a forgotten record is back, version %d", got.Version)
	}
	c.fill(old, c.count())
	for _, id := range []sandbox.ID{"b", "c"} {
		c.fill(&sandbox.Record{ID: id}, c.count())
	}
	if got, _ := c.get("a"); got != nil {
		t.Error("the cache grew beyond its bound")
	}
}
