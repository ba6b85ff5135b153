package sqlitestore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	// The driver registers itself under the name sqlite.
	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"opensandbox/libs/fault"
)

// readers bounds the connections that read. Each keeps up to 2 MB of pages.
const readers = 4

// busy is how long a statement waits for a lock of somebody else on the file, such as a backup by hand.
const busy = 5 * time.Second

// Option changes a store that is opened.
type Option func(*Store)

// WithClock sets the clock of the store; time.Now is the default. It may be called concurrently.
func WithClock(now func() time.Time) Option { return func(s *Store) { s.clock = now } }

// change makes one of the changes of opening, which it is told the name of.
type change func(name string, do func() error) error

func makeChange(_ string, do func() error) error { return do() }

// Open opens the store at path and brings its schema up to date. The directory is made with mode 0700 and the file with 0600 if
// they are missing; an existing file loses the rights of group and others, because records hold environment variables.
//
// fault.Conflict when another process has the store, or when its schema is newer than this program; fault.Invalid when the file is
// no SQLite database, is damaged, or has the tables of another program and is then left as it was. The texts name the path.
func Open(ctx context.Context, path string, opts ...Option) (*Store, error) {
	return openWith(ctx, path, embedded, opts...)
}

func openWith(ctx context.Context, path string, migrations fs.FS, opts ...Option) (*Store, error) {
	steps, err := loadMigrations(migrations)
	if err != nil {
		return nil, err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the store: %w", err)
	}
	lock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, clock: time.Now, lock: lock, change: makeChange, write: make(chan struct{}, 1)}
	for _, o := range opts {
		o(s)
	}
	if err := s.start(ctx, steps); err != nil {
		return nil, errors.Join(s.explain(err), s.Close())
	}
	return s, nil
}

// start does what can fail after the lock is held; Close undoes it.
func (s *Store) start(ctx context.Context, steps []migration) error {
	if err := s.change("make the file", func() error { return prepareFile(s.path) }); err != nil {
		return err
	}
	// Before anything of the file is changed: its journal, its mode, its tables.
	if err := refuseForeign(ctx, s.path); err != nil {
		return err
	}
	if err := s.change("take the rights of others", func() error { return closeToOthers(s.path) }); err != nil {
		return err
	}
	var err error
	if s.cache, err = newCache(cacheSize); err != nil {
		return err
	}
	if s.writer, err = sql.Open("sqlite", dsn(s.path, "journal_mode(WAL)", "synchronous(NORMAL)", "foreign_keys(0)")); err != nil {
		return err
	}
	s.writer.SetMaxOpenConns(1)
	err = s.change("write ahead", func() (err error) { // the first connection sets the mode of the journal
		s.conn, err = s.writer.Conn(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if err := (migrator{s.conn, s.path, s.now(), s.change}).migrate(ctx, steps); err != nil {
		return err
	}
	if s.stmts, err = prepareWrites(ctx, s.conn); err != nil {
		return err
	}
	if err := s.conn.QueryRowContext(ctx, `SELECT coalesce(max(work_since), 0) FROM osb_sandbox WHERE work_since IS NOT NULL`).Scan(&s.changes); err != nil {
		return err
	}
	if s.recovery, err = readRecovery(ctx, s.stmts.meta); err != nil {
		return err
	}
	if s.reader, err = sql.Open("sqlite", dsn(s.path, "query_only(1)")); err != nil {
		return err
	}
	s.reader.SetMaxOpenConns(readers)
	s.reader.SetMaxIdleConns(readers)
	s.reads, err = prepareReads(ctx, s.reader)
	return err
}

// dsn returns the name of the file for the driver, which runs the pragmas on each new connection.
func dsn(path string, pragmas ...string) string {
	q := url.Values{"_pragma": append([]string{fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds())}, pragmas...)}
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}
	return u.String()
}

// magic starts every SQLite file.
var magic = []byte("SQLite format 3\x00")

// prepareFile makes the file if it is missing, and looks at its first bytes.
func prepareFile(path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fault.Newf(fault.Invalid, "the store %s is not a regular file", path)
	}
	head := make([]byte, len(magic))
	n, err := io.ReadFull(f, head)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case !bytes.Equal(head[:n], magic):
		return fault.Newf(fault.Invalid, "the store %s is not a SQLite database", path)
	}
	return nil
}

// closeToOthers takes the rights of group and others.
func closeToOthers(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	return os.Chmod(path, info.Mode().Perm()&^0o077)
}

// refuseForeign gives an error for a database that is neither empty, nor ours, nor that of OpenSandbox's own server, whose default file is at the
// same place: a wrong path must not add our tables to somebody else's.
func refuseForeign(ctx context.Context, path string) (err error) {
	db, err := sql.Open("sqlite", dsn(path, "query_only(1)"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	const look = `SELECT count(*), coalesce(sum(name = 'osb_meta'), 0), coalesce(min(name), ''),
		(SELECT count(*) FROM pragma_table_info('snapshots') WHERE name IN ('id', 'source_sandbox_id'))
		FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite!_%' ESCAPE '!'`
	var tables, ours, theirs int
	var first string
	if err := db.QueryRowContext(ctx, look).Scan(&tables, &ours, &first, &theirs); err != nil {
		return err
	}
	if tables == 0 || ours > 0 || theirs == 2 {
		return nil
	}
	return fault.Newf(fault.Invalid, "the store %s is a SQLite database of another program (it has %q): expected a file that does not exist yet, a store of this program, or "+
		`the file of OpenSandbox's own server with its table "snapshots"`, path, first)
}

// explain gives an error of Open a text that names the file.
func (s *Store) explain(err error) error {
	if _, classified := errors.AsType[*fault.Error](err); classified {
		return err
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff {
		case sqlitelib.SQLITE_CORRUPT, sqlitelib.SQLITE_NOTADB:
			return fault.Newf(fault.Invalid, "the store %s is damaged or not a SQLite database", s.path).Because(err)
		case sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED:
			return fault.Newf(fault.Conflict, "the store %s is locked by another program", s.path).Because(err)
		}
	}
	return fault.Newf(fault.Unavailable, "the store %s cannot be opened", s.path).Because(err)
}
