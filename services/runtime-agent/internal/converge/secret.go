package converge

import (
	"context"
	"errors"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
)

// image returns the image to make a sandbox from, with the credentials that the client gave for its registry. They live in this step only.
// An Outcome says that the create has failed for want of them.
func (c *Converger) image(ctx context.Context, r *sandbox.Record) (executor.Image, *Outcome, error) {
	img := executor.Image{Name: r.Spec.Image, Platform: r.Spec.Needs.Platform}
	if !r.Spec.Private {
		return img, nil, nil
	}
	sealed, err := c.deps.Store.Secret(ctx, r.ID)
	if err != nil {
		return img, nil, err
	}
	if img.Credentials, err = c.unseal(r.ID, sealed); err != nil {
		out, err := c.failCreate(ctx, r, sandbox.ReasonCreateError, "the registry credentials of the sandbox cannot be used any more", err)
		return img, &out, err
	}
	return img, nil, nil
}

func (c *Converger) unseal(id sandbox.ID, sealed []byte) (sandbox.Credentials, error) {
	switch {
	case sealed == nil:
		return sandbox.Credentials{}, errors.New("the store has none for it")
	case c.cfg.Unseal == nil:
		return sandbox.Credentials{}, errors.New("this agent has no key to unseal them")
	}
	clear, err := c.cfg.Unseal(id, sealed)
	if err != nil {
		return sandbox.Credentials{}, err
	}
	return sandbox.DecodeCredentials(clear)
}
