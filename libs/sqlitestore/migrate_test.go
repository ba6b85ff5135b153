package sqlitestore

import (
	"database/sql"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"opensandbox/libs/fault"
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
	execute(t, path, `CREATE TABLE snapshots (id TEXT, state TEXT)`, `INSERT INTO snapshots VALUES ('s1', 'Ready')`, `PRAGMA user_version = 17`)
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
		`SELECT sql FROM sqlite_schema LIMIT 1`: "CREATE TABLE snapshots (id TEXT, state TEXT)",
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
	first, err := embedded.ReadFile("migrations/0001_init.sql")
	if err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{
		"migrations/0001_init.sql": {Data: first},
		"migrations/0002_next.sql": {Data: []byte(script)},
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
	rejected(t, "a newer schema", path, fault.Conflict, path, "version 2", "up to 1", path+".bak-v1")
	same(t, "the copy from before", read(t, open(t, path+".bak-v1")), want)
	if info, err := os.Stat(path + ".bak-v1"); err != nil || info.Mode() != 0o600 {
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
