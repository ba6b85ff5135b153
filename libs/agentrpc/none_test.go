package agentrpc

import "context"

// none is an agent without sandboxes.
type none struct{}

func (none) Logs(context.Context, Ref, int) ([]string, error)  { return nil, nil }
func (none) Inspect(context.Context, Ref) (Inspection, error)  { return Inspection{}, nil }
func (none) Events(context.Context, Ref, int) ([]Event, error) { return nil, nil }
