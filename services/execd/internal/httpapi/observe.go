package httpapi

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"opensandbox/services/execd/internal/redact"
)

// Observer hears of every answer. route is the pattern of the route, such as /command/status/{}, or "unknown": it comes from a
// closed set, unlike paths.
type Observer func(method, route string, status int, took time.Duration)

// observed wraps the response so that its status is known at the end.
type observed struct {
	http.ResponseWriter
	status int
	route  string
}

// WriteHeader notes the final status; 1xx are not it.
func (o *observed) WriteHeader(status int) {
	if o.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		o.status = status
	}
	o.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (o *observed) Write(b []byte) (int, error) {
	o.ok()
	return o.ResponseWriter.Write(b)
}

// ReadFrom keeps downloads going from file to socket in the kernel.
func (o *observed) ReadFrom(src io.Reader) (int64, error) {
	o.ok()
	return io.Copy(o.ResponseWriter, src)
}

// Unwrap lets http.ResponseController reach flushing and hijacking.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func (o *observed) ok() {
	if o.status == 0 {
		o.status = http.StatusOK
	}
}

// observe serves one request and tells log and Observer about it. Queries are not logged: they name files.
func (a *API) observe(w http.ResponseWriter, r *http.Request, path string) {
	logged := a.cfg.Log.Enabled(r.Context(), slog.LevelInfo)
	if !logged && a.cfg.Observer == nil {
		a.dispatch(w, r, path, 0)
		return
	}
	o := &observed{ResponseWriter: w, route: "unknown"}
	began := time.Now()
	defer func() { // Also after a panic that cuts the connection.
		took := time.Since(began)
		if o.status == 0 {
			o.status = http.StatusOK // A hijacked connection, or nobody was left to answer.
		}
		if a.cfg.Observer != nil {
			a.cfg.Observer(r.Method, o.route, o.status, took)
		}
		if logged {
			a.cfg.Log.Info("request", "method", r.Method, "path", redact.Text(path), "status", o.status, "took", took, "id", w.Header().Get(requestIDHeader))
		}
	}()
	a.dispatch(o, r, path, 0)
}

// executed tells of an execution that was begun, once there is nothing more to come of it but its last event.
func (a *API) executed(operation string, ok bool, took time.Duration) {
	if a.cfg.Executed != nil {
		a.cfg.Executed(operation, ok, took)
	}
}

// routed notes which route serves.
func routed(w http.ResponseWriter, pattern string) {
	if o, ok := w.(*observed); ok {
		o.route = pattern
	}
}

// pattern gives the route as it was registered.
func (rt *route) pattern() string { return "/" + strings.Join(rt.segments, "/") }
