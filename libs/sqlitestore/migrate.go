package sqlitestore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"opensandbox/libs/fault"
)

//go:embed migrations/*.sql
var embedded embed.FS

// The version of our schema is kept in a table of ours and not in user_version: the default file can be the one of OpenSandbox's
// own server, and that number belongs to whoever made the file.
const (
	metaTable       = `CREATE TABLE IF NOT EXISTS osb_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID`
	keySchema       = "schema_version"
	keyIncarnation  = "incarnation"
	keyInstallation = "installation"
)

// migration is one step forward; its number is the version that it leads to.
type migration struct {
	version int
	script  string
}

// loadMigrations reads NNNN_name.sql files. They are numbered from 1 without a gap.
func loadMigrations(from fs.FS) ([]migration, error) {
	names, err := fs.Glob(from, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var out []migration
	for i, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("migration %s should have the number %04d", name, i+1)
		}
		script, err := fs.ReadFile(from, name)
		if err != nil {
			return nil, err
		}
		out = append(out, migration{version: version, script: string(script)})
	}
	return out, nil
}

// migrator changes the schema of a file over its only writing connection.
type migrator struct {
	conn   *sql.Conn
	file   string
	now    time.Time
	change change
}

// migrate brings the schema to the newest version, after a copy of a file that held anything. A newer schema is refused.
func (m migrator) migrate(ctx context.Context, steps []migration) error {
	file := m.file
	have, tables, err := schemaVersion(ctx, m.conn)
	if err != nil {
		return err
	}
	switch want := len(steps); {
	case have > want:
		return fault.Newf(fault.Conflict, "the store %s has schema version %d; this program knows versions up to %d: use a newer program, or the copy %s.bak-v%d if there is one",
			file, have, want, file, want)
	case have == want:
		return nil
	}
	if tables > 0 {
		if err := m.backup(ctx, fmt.Sprintf("%s.bak-v%d", file, have)); err != nil {
			return fmt.Errorf("copy %s before the change of its schema: %w", file, err)
		}
	}
	if err := m.apply(ctx, steps[have:]); err != nil {
		return fmt.Errorf("change the schema of %s from version %d to %d: %w", file, have, len(steps), err)
	}
	return nil
}

// schemaVersion returns the version of our schema, 0 for none, and the number of tables of anyone.
func schemaVersion(ctx context.Context, conn *sql.Conn) (version, tables int, err error) {
	var ours int
	err = conn.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(name = 'osb_meta'), 0) FROM sqlite_schema WHERE type = 'table'`).Scan(&tables, &ours)
	if err != nil || ours == 0 {
		return 0, tables, err
	}
	var text string
	err = conn.QueryRowContext(ctx, `SELECT value FROM osb_meta WHERE key = ?`, keySchema).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, tables, nil
	}
	if err != nil {
		return 0, tables, err
	}
	version, err = strconv.Atoi(text)
	return version, tables, err
}

// backup writes a consistent copy of the whole file. An older copy of the same version is replaced, by a rename.
func (m migrator) backup(ctx context.Context, name string) error {
	temporary := name + ".tmp"
	err := m.change("remove an unfinished copy", func() error {
		if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	// VACUUM INTO takes an empty file as it is, with its mode.
	err = m.change("make the file of the copy", func() error {
		f, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	})
	if err != nil {
		return err
	}
	err = m.change("copy", func() error { return m.execute(ctx, `VACUUM INTO ?`, temporary) })
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return m.change("give the copy its name", func() error { return os.Rename(temporary, name) })
}

func (m migrator) execute(ctx context.Context, statement string, args ...any) error {
	_, err := m.conn.ExecContext(ctx, statement, args...)
	return err
}

// apply runs the steps in one transaction: all of them or none.
func (m migrator) apply(ctx context.Context, steps []migration) (err error) {
	do := func(name, statement string, args ...any) error {
		return m.change(name, func() error { return m.execute(ctx, statement, args...) })
	}
	if err := do("begin", `BEGIN IMMEDIATE`); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// After some errors, such as a full disk, SQLite has done so itself and has nothing to roll back.
			_ = m.execute(context.WithoutCancel(ctx), `ROLLBACK`)
		}
	}()
	if err := do("make the table of the version", metaTable); err != nil {
		return err
	}
	for _, step := range steps {
		if err := do(fmt.Sprintf("step %d", step.version), step.script); err != nil {
			return fmt.Errorf("step %d: %w", step.version, err)
		}
	}
	const set = `INSERT INTO osb_meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`
	if err := do("set the version", set, keySchema, strconv.Itoa(steps[len(steps)-1].version)); err != nil {
		return err
	}
	const setOnce = `INSERT INTO osb_meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING`
	if err := do("set the incarnation", setOnce, keyIncarnation, m.now.Format(time.RFC3339Nano)); err != nil {
		return err
	}
	return do("commit", `COMMIT`)
}
