package memstore

import (
	"context"
	"slices"

	"opensandbox/libs/sandbox"
)

// Secret implements sandbox.Secrets.
func (s *Store) Secret(ctx context.Context, id sandbox.ID) ([]byte, error) {
	var out []byte
	err := s.do(ctx, func(*step) error {
		out = slices.Clone(s.secrets[id])
		return nil
	})
	return out, err
}
