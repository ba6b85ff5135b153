// Package sqlitestore implements the ports of packages sandbox and node on a SQLite file: the store of the single binary.
//
// One process owns the file, which a lock file enforces; that is what allows the cache of records and the hints inside the
// process. The write-ahead log with synchronous=NORMAL keeps every commit over a crash of the process; a loss of power can lose
// the last ones.
//
// The file may be shared with others in the sense that it holds tables of theirs: ours begin with osb_, and no other is touched.
package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/wakeup"
)

var (
	_ sandbox.Store = (*Store)(nil)
	_ node.Registry = (*Store)(nil)
)

// Store is a store in a SQLite file. All methods may be called concurrently. They give fault.Unavailable after Close and when the
// file cannot be read or written.
type Store struct {
	path   string
	clock  func() time.Time
	hub    wakeup.Hub
	cache  *cache
	lock   *fileLock
	closed atomic.Bool
	// change makes each of the changes of opening; tests look in between.
	change change

	// write is held by the one writer; a channel, so that waiting for it can be given up.
	write  chan struct{}
	writer *sql.DB
	// conn is the only connection of writer.
	conn  *sql.Conn
	stmts *writeStatements
	// changes is the highest work_since of all; it belongs to the holder of write.
	changes int64
	// recovery is as the file has it; it belongs to the holder of write.
	recovery sandbox.Recovery

	reader *sql.DB
	reads  *readStatements
}

// Close waits for the write that is under way, ends all connections and gives the file free. Calling it again does nothing.
func (s *Store) Close() error {
	s.write <- struct{}{}
	defer func() { <-s.write }()
	if s.closed.Swap(true) {
		return nil
	}
	var errs []error
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	errs = append(errs, s.lock.release())
	return errors.Join(errs...)
}

// Path returns the path of the file.
func (s *Store) Path() string { return s.path }

// Subscribe implements sandbox.Hints.
func (s *Store) Subscribe(t sandbox.Topic) (changed <-chan struct{}, cancel func()) {
	return s.hub.Subscribe(t)
}

func (s *Store) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }

// check gives an error for a store that is closed and for a caller that has gone away.
func (s *Store) check(ctx context.Context) error {
	if s.closed.Load() {
		return fault.New(fault.Unavailable, "the store is closed")
	}
	return ctx.Err()
}

// fullRetry is when a write to a full disk may be repeated: somebody has to make room first.
const fullRetry = 5 * time.Second

// failed classifies an error of the database. Errors that are classified already, and those of the context, stay as they are.
func (s *Store) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, classified := errors.AsType[*fault.Error](err); classified {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if s.closed.Load() {
		return fault.New(fault.Unavailable, "the store is closed").Because(err)
	}
	cause := fmt.Errorf("%s: %s: %w", s.path, op, err)
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqlitelib.SQLITE_FULL {
		// A transaction that meets this, in its commit too, was taken back: what it has written has no end that would make it hold.
		return fault.New(fault.Unavailable, "the disk of the store is full; nothing was changed").WithCode(sandbox.CodeStoreFull).RetryAfter(fullRetry).Because(cause)
	}
	return fault.New(fault.Unavailable, "the store is not available").Because(cause)
}

// tx is one write transaction: the time it happens at, and what follows from its commit.
type tx struct {
	*Store
	now time.Time
	// ctx is not cancelled with the caller's: a transaction takes well under a millisecond and is then done wholly.
	ctx    context.Context
	topics []sandbox.Topic
	// saved and forgotten go to the cache with the commit.
	saved     map[sandbox.ID]*sandbox.Record
	forgotten []sandbox.ID
	// counts says that something else was changed that tells how far the store has come.
	counts bool
}

// do runs fn in one write transaction. An error of fn takes everything back.
func (s *Store) do(ctx context.Context, op string, fn func(t *tx) error) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	select {
	case s.write <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	t, err := s.transact(ctx, fn)
	<-s.write
	if err != nil {
		return s.failed(op, err)
	}
	s.hub.Publish(t.topics...)
	return nil
}

// transact is do while the lock is held.
func (s *Store) transact(ctx context.Context, fn func(t *tx) error) (*tx, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	changes, recovery := s.changes, s.recovery
	t := &tx{Store: s, now: s.now(), ctx: context.WithoutCancel(ctx), saved: map[sandbox.ID]*sandbox.Record{}}
	if _, err := s.stmts.begin.ExecContext(t.ctx); err != nil {
		return nil, err
	}
	err := fn(t)
	if err == nil && (t.counts || len(t.saved)+len(t.forgotten) > 0) {
		err = t.count()
	}
	if err == nil {
		_, err = s.stmts.commit.ExecContext(t.ctx)
	}
	if err != nil {
		s.changes, s.recovery = changes, recovery
		// SQLite has ended the transaction itself after some errors; then there is nothing to take back.
		_, _ = s.stmts.rollback.ExecContext(t.ctx)
		// After a failed commit only the file knows what holds.
		s.cache.commit(nil, append(slices.Collect(maps.Keys(t.saved)), t.forgotten...))
		return nil, err
	}
	s.cache.commit(t.saved, t.forgotten)
	return t, nil
}

// snapshot is one read transaction: all its queries see the state at the first one.
type snapshot struct {
	*sql.Tx
	*Store
	// commits is the cache's count before the transaction began.
	commits uint64
}

// view runs fn in one read transaction.
func (s *Store) view(ctx context.Context, op string, fn func(q *snapshot) error) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	commits := s.cache.count()
	q, err := s.reader.BeginTx(ctx, nil)
	if err != nil {
		return s.failed(op, err)
	}
	err = fn(&snapshot{Tx: q, Store: s, commits: commits})
	if end := q.Rollback(); err == nil && !errors.Is(end, sql.ErrTxDone) {
		err = end
	}
	if ctxErr := ctx.Err(); err != nil && ctxErr != nil {
		err = ctxErr
	}
	return s.failed(op, err)
}
