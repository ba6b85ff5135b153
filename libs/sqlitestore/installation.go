package sqlitestore

import (
	"context"
	"database/sql"
	"errors"

	"opensandbox/libs/fault"
)

// meta returns a value of osb_meta, or "".
func (s *Store) meta(ctx context.Context, key string) (string, error) {
	if err := s.check(ctx); err != nil {
		return "", err
	}
	var v string
	err := s.reads.meta.QueryRowContext(ctx, key).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return v, s.failed("read "+key, err)
}

// Installation returns the id of the installation that the store belongs to, or "" when none has been bound yet.
func (s *Store) Installation(ctx context.Context) (string, error) {
	return s.meta(ctx, keyInstallation)
}

// BindInstallation makes the store belong to an installation. Repeating it is harmless; fault.Conflict, with a text that names
// both, when the store belongs to another one. fault.Invalid for an empty id.
func (s *Store) BindInstallation(ctx context.Context, id string) error {
	if id == "" {
		return fault.New(fault.Invalid, "an installation id is not empty")
	}
	return s.do(ctx, "bind installation", func(t *tx) error {
		var have string
		err := t.stmts.meta.QueryRowContext(t.ctx, keyInstallation).Scan(&have)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			_, err := t.stmts.metaPut.ExecContext(t.ctx, keyInstallation, id)
			return err
		case err != nil:
			return err
		case have != id:
			return fault.Newf(fault.Conflict, "the store %s belongs to installation %q and not to %q", s.path, have, id)
		}
		return nil
	})
}
