package command

import "context"

// turns lets as many callers at once do something as it has room for; the others wait until it is their turn.
type turns chan struct{}

// take waits for a turn, or returns the error of ctx if that ends before. The caller calls what it returns when the turn is over.
func (t turns) take(ctx context.Context) (over func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
