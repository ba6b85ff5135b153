package sandbox

import "context"

// Origin is the request that work is done for, so that spans and logs of all processes can be told as a part of it. Both may be empty: not
// every change comes from a request, and records of earlier versions lack the id.
type Origin struct {
	// Trace is the trace of the request, as in the W3C header traceparent.
	Trace string `json:"trace,omitempty"`
	// Request is its id, as in X-Request-ID.
	Request string `json:"request,omitempty"`
}

type originKey struct{}

// WithOrigin returns ctx as a part of the work for a request. Stores note it with the changes of Desired that are made under ctx, and logs
// name it. An empty one leaves ctx as it is.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	if o == (Origin{}) {
		return ctx
	}
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf returns what WithOrigin was given.
func OriginOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}
