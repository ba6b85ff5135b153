package sandbox

import "context"

type traceKey struct{}

// WithTrace returns ctx with the trace of a request, as in the W3C header traceparent. Stores note it with the changes of Desired that
// are made under ctx, so that the work for them can be told as a part of that request. Empty leaves ctx as it is.
func WithTrace(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, traceparent)
}

// TraceOf returns what WithTrace was given, or "".
func TraceOf(ctx context.Context) string {
	t, _ := ctx.Value(traceKey{}).(string)
	return t
}
