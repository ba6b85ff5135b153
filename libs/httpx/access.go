package httpx

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// WithAccessLog writes one line for each request once it has been answered, or cut: client, method, path, status, bytes of the body, and
// duration. It leaves out the query, which may carry signatures and tokens. A nil log switches it off. It belongs inside WithRequestID, so
// that lines have the id of their request.
func WithAccessLog(log *slog.Logger, next http.Handler) http.Handler {
	if log == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, path := time.Now(), r.URL.EscapedPath() // handlers may rewrite the URL
		seen := &countingWriter{ResponseWriter: w}
		defer func() {
			client, _, err := net.SplitHostPort(r.RemoteAddr)
			if err != nil {
				client = r.RemoteAddr
			}
			log.InfoContext(r.Context(), "request", "client", client, "method", r.Method, "path", path, "proto", r.Proto,
				"status", seen.status, "bytes", seen.bytes, "duration_ms", float64(time.Since(start).Microseconds())/1000)
		}()
		next.ServeHTTP(seen, r)
		if seen.status == 0 {
			seen.status = http.StatusOK // what net/http answers for a handler that says nothing
		}
	})
}

// countingWriter remembers what was answered. Flushing goes through Unwrap, as http.ResponseController does it.
type countingWriter struct {
	http.ResponseWriter
	// status is 0 if the request was cut before anything was answered.
	status int
	bytes  int64
}

func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack counts as a change of protocols: what is answered then, and how much, is not seen.
func (w *countingWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && w.status == 0 {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

func (w *countingWriter) WriteHeader(code int) {
	// 1xx answers but 101 are followed by another.
	if w.status == 0 && (code >= http.StatusOK || code == http.StatusSwitchingProtocols) {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *countingWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom keeps the copy in the kernel that the writer below may know.
func (w *countingWriter) ReadFrom(src io.Reader) (int64, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := io.Copy(w.ResponseWriter, src)
	w.bytes += n
	return n, err
}
