package docker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestFreezingIsTriedAgain(t *testing.T) {
	t.Parallel()
	slow := errors.New("Cannot pause container c: OCI runtime pause failed: unable to freeze: unknown")
	other := errors.New("Container c is not running")
	for name, c := range map[string]struct {
		answers []error
		want    error
	}{
		"at once":                  {[]error{nil}, nil},
		"the third time":           {[]error{slow, slow, nil}, nil},
		"never":                    {[]error{slow, slow, slow, slow, slow}, slow},
		"for another reason":       {[]error{other}, other},
		"for another reason later": {[]error{slow, other}, other},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			err := freeze(t.Context(), "c", func(context.Context, string) error { asked++; return c.answers[asked-1] })
			if !errors.Is(err, c.want) || asked != len(c.answers) {
				t.Errorf("%s: %v after %d calls, want %v after %d", name, err, asked, c.want, len(c.answers))
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	asked := 0
	if err := freeze(ctx, "c", func(context.Context, string) error { asked++; return slow }); !errors.Is(err, slow) || asked != 1 {
		t.Errorf("nobody waits any more: %v after %d calls", err, asked)
	}
}
