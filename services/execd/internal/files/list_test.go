package files

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestWalkOfNobody: a walk that nobody waits for ends, whether it finds anything or not.
func TestWalkOfNobody(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a", "b", "c"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := New(nil, nil)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	never := func(i Info) error {
		t.Errorf("found %s", i.Path)
		return nil
	}
	if err := s.Search(ctx, root, "*", never); !errors.Is(err, context.Canceled) {
		t.Errorf("search: %v", err)
	}
	if err := s.List(ctx, root, 9, never); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
}
