package command

// turns lets as many callers at once do something as it has room for; the others wait until it is their turn.
type turns chan struct{}

// take waits for a turn. The caller calls what it returns when the turn is over.
func (t turns) take() (over func()) {
	t <- struct{}{}
	return func() { <-t }
}
