package sqlitestore

import (
	"context"
	"database/sql"
	"errors"

	"opensandbox/libs/sandbox"
)

// Secret implements sandbox.Secrets.
func (s *Store) Secret(ctx context.Context, id sandbox.ID) ([]byte, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	var sealed []byte
	err := s.reads.secret.QueryRowContext(ctx, string(id)).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return sealed, s.failed("secret", err)
}
