package sqlitestore

import (
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// execute runs SQL on a file as another program would.
func execute(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// scalar reads one value as another program would.
func scalar(t *testing.T, path, query string) string {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	var v string
	if err := db.QueryRow(query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTablesOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "opensandbox.db")
	execute(t, path, `CREATE TABLE snapshots (id TEXT, source_sandbox_id TEXT, state TEXT)`, `INSERT INTO snapshots VALUES ('s1', 'box', 'Ready')`, `PRAGMA user_version = 17`)
	s := open(t, path)
	fill(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		`PRAGMA user_version`:                   "17",
		`SELECT id || state FROM snapshots`:     "s1Ready",
		`SELECT count(*) FROM snapshots`:        "1",
		`SELECT count(*) FROM osb_sandbox`:      "3",
		`SELECT sql FROM sqlite_schema LIMIT 1`: "CREATE TABLE snapshots (id TEXT, source_sandbox_id TEXT, state TEXT)",
		`SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'osb!_%' ESCAPE '!' AND name NOT LIKE 'sqlite!_%' ESCAPE '!' AND name <> 'snapshots'`: "0",
	} {
		if got := scalar(t, path, query); got != want {
			t.Errorf("%s: %q; want %q", query, got, want)
		}
	}
	if got := scalar(t, path+".bak-v0", `SELECT id || state FROM snapshots`); got != "s1Ready" {
		t.Errorf("the copy has %q", got)
	}
	if got := scalar(t, path+".bak-v0", `SELECT count(*) FROM sqlite_schema WHERE name LIKE 'osb!_%' ESCAPE '!'`); got != "0" {
		t.Errorf("the copy has %s of our tables", got)
	}
}

// withStep is the schema of this program with one more step.
func withStep(t *testing.T, script string) fs.FS {
	t.Helper()
	steps, err := loadMigrations(embedded)
	if err != nil {
		t.Fatal(err)
	}
	all := fstest.MapFS{fmt.Sprintf("migrations/%04d_next.sql", len(steps)+1): {Data: []byte(script)}}
	for _, s := range steps {
		all[fmt.Sprintf("migrations/%04d_step.sql", s.version)] = &fstest.MapFile{Data: []byte(s.script)}
	}
	return all
}

// present is the version of the schema of this program.
func present(t *testing.T) int {
	t.Helper()
	steps, err := loadMigrations(embedded)
	if err != nil {
		t.Fatal(err)
	}
	return len(steps)
}

// TestUpgradeFromTheFirstSchema opens a file that the first release left, and uses all that it knew.
func TestUpgradeFromTheFirstSchema(t *testing.T) {
	t.Parallel()
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "store.db")
	first, err := os.ReadFile("testdata/schema-1.sql")
	if err != nil {
		t.Fatal(err)
	}
	execute(t, path, string(first))
	s := open(t, path)
	if id, err := s.Installation(ctx); id != "first" || err != nil {
		t.Errorf("installation %q, %v", id, err)
	}
	page, err := s.List(ctx, sandbox.Query{Limit: 10})
	if err != nil || page.Total != 2 || page.Items[0].ID != "running" || page.Items[1].ID != "pending" {
		t.Errorf("list: %+v, %v", page, err)
	}
	if page, err = s.List(ctx, sandbox.Query{Limit: 10, Metadata: map[string]string{"team": "a"}}); err != nil || page.Total != 1 {
		t.Errorf("list by metadata: %+v, %v", page, err)
	}
	running, err := s.Get(ctx, "running")
	if err != nil || running.Placement.Ports[44772] != 40000 || running.Observed.Addresses.ContainerIP != "172.17.0.2" || running.Spec.Private {
		t.Errorf("record %+v, %v", running, err)
	}
	if use, err := s.Usage(ctx); err != nil || use["n"].Reserved.CPU != 500 {
		t.Errorf("usage %+v, %v", use, err)
	}
	nodes, err := s.Nodes(ctx)
	if err != nil || len(nodes) != 1 || nodes[0].Session != 7 || !nodes[0].Draining || nodes[0].Capacity.CPU != 2000 || nodes[0].Removed {
		t.Errorf("nodes %+v, %v", nodes, err)
	}
	n, err := s.Register(ctx, node.Registration{Name: "n", EngineID: "engine", Labels: map[string]string{"zone": "a"}})
	if err != nil || n.Session != 8 {
		t.Errorf("registered again: %+v, %v", n, err)
	}
	if _, err := s.SetGone(ctx, "running", sandbox.ReasonDeleted); err != nil {
		t.Errorf("write: %v", err)
	}
	if n, err := s.Purge(ctx, 0, 10); n != 1 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	copied := path + ".bak-v1"
	if got := scalar(t, copied, `SELECT count(*) FROM osb_sandbox`); got != "3" {
		t.Errorf("the copy from before has %s records", got)
	}
	if got := scalar(t, copied, `SELECT value FROM osb_meta WHERE key = 'schema_version'`); got != "1" {
		t.Errorf("the copy from before has schema version %s", got)
	}
}

func TestMigration(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	old := open(t, path)
	fill(t, old)
	want := read(t, old)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + ".bak-v0"); !os.IsNotExist(err) {
		t.Errorf("a new file was copied: %v", err)
	}
	// A step that fails changes nothing, and names itself.
	failing := withStep(t, `ALTER TABLE osb_sandbox ADD COLUMN extra TEXT; CREATE TABLE broken (;`)
	if s, err := openWith(t.Context(), path, failing); err == nil {
		t.Fatalf("opened; close: %v", s.Close())
	}
	next := withStep(t, `ALTER TABLE osb_sandbox ADD COLUMN extra TEXT NOT NULL DEFAULT 'x';`)
	s, err := openWith(t.Context(), path, next)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "after the migration", read(t, s), want)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := scalar(t, path, `SELECT DISTINCT extra FROM osb_sandbox`); got != "x" {
		t.Errorf("the new column has %q", got)
	}
	have := present(t)
	copied := fmt.Sprintf("%s.bak-v%d", path, have)
	rejected(t, "a newer schema", path, fault.Conflict, path, fmt.Sprintf("version %d", have+1), fmt.Sprintf("up to %d", have), copied)
	same(t, "the copy from before", read(t, open(t, copied)), want)
	if info, err := os.Stat(copied); err != nil || info.Mode() != 0o600 {
		t.Errorf("the copy: %v, %v", info, err)
	}
}

func TestMigrationsAreNumbered(t *testing.T) {
	t.Parallel()
	if steps, err := loadMigrations(embedded); err != nil || len(steps) == 0 {
		t.Errorf("embedded: %d steps, %v", len(steps), err)
	}
	for _, name := range []string{"0002_gap.sql", "first.sql", "0000_zero.sql"} {
		if _, err := loadMigrations(fstest.MapFS{"migrations/" + name: {}}); err == nil {
			t.Errorf("%s was accepted as the first step", name)
		}
	}
}

func TestUnknownFieldsAreTolerated(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path)
	fill(t, s)
	want := read(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, path, `UPDATE osb_sandbox SET body = CAST(json_set(CAST(body AS TEXT), '$.later', 1, '$.intent.later', 'x') AS BLOB)`)
	again := open(t, path)
	same(t, "with unknown fields", read(t, again), want)
	if _, err := again.SetGone(t.Context(), "running", sandbox.ReasonDeleted); err != nil {
		t.Errorf("write: %v", err)
	}
}
