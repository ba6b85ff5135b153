package httpapi

import (
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/command"
	"opensandbox/services/execd/internal/redact"
	"opensandbox/services/execd/internal/sse"
)

// tailCursor carries the offset from which the next log request should go on.
const tailCursor = "EXECD-COMMANDS-TAIL-CURSOR"

// streamSink opens the event stream when the command has started, so that everything before can still be a plain JSON error.
type streamSink struct {
	w      http.ResponseWriter
	stream *sse.Stream
}

// Started implements command.Sink.
func (s *streamSink) Started(id string) {
	s.stream = sse.Open(s.w)
	_ = s.stream.Init(id) // A failed write comes back with the next one.
}

// Output implements command.Sink.
func (s *streamSink) Output(stream string, lines [][]byte) error {
	return s.stream.Output(stream, lines)
}

func (a *API) runCommand(w http.ResponseWriter, r *http.Request, _ []string) error {
	var req command.Request
	if err := decode(w, r, &req); err != nil {
		return err
	}
	return a.streamCommand(w, r, &req)
}

// consume reads the rest of a body. That must be done before the answer starts: net/http watches for a departing client only after that.
func consume(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody))
}

// streamCommand runs a command and answers with its events.
func (a *API) streamCommand(w http.ResponseWriter, r *http.Request, req *command.Request) error {
	consume(w, r)
	if a.cfg.Log.Enabled(r.Context(), slog.LevelInfo) {
		a.cfg.Log.Info("command", "text", redact.Text(req.Text()), "background", req.Background, "id", w.Header().Get(requestIDHeader))
	}
	sink := &streamSink{w: w}
	var res command.Result
	var err error
	if req.Background {
		res, err = a.cfg.Commands.Background(req, sink)
	} else {
		res, err = a.cfg.Commands.Foreground(r.Context(), req, sink)
	}
	if sink.stream == nil {
		return err
	}
	defer sink.stream.Close()
	if err != nil {
		return nil // The client went away: nobody is left to answer.
	}
	a.executed("run_command", res.StartErr == nil && res.Code == 0, res.Took)
	switch {
	case res.StartErr != nil:
		_ = sink.stream.Fail("CommandExecError", res.StartErr.Error(), res.StartErr.Error())
	case res.Code != 0:
		_ = sink.stream.Fail("CommandExecError", strconv.Itoa(res.Code), res.Problem)
	default:
		_ = sink.stream.Complete(res.Took)
	}
	return nil
}

func (a *API) interruptCommand(w http.ResponseWriter, r *http.Request, _ []string) error {
	id := r.URL.Query().Get("id")
	if id == "" {
		return missingQuery("id")
	}
	if a.cfg.Sessions.Has(id) {
		return a.deleteSession(w, r, []string{id}) // A run of a session has no id of its own, as in OpenSandbox 1.1.1.
	}
	if err := a.cfg.Commands.Interrupt(r.Context(), id); err != nil {
		return err
	}
	return empty(w)
}

func (a *API) commandStatus(w http.ResponseWriter, _ *http.Request, args []string) error {
	st, err := a.cfg.Commands.Status(args[0])
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, st)
}

// commandLogs sends the log of a background command from a byte offset. A cursor that is no number counts as 0, as in
// OpenSandbox 1.1.1.
func (a *API) commandLogs(w http.ResponseWriter, r *http.Request, args []string) error {
	cursor, err := strconv.ParseInt(r.URL.Query().Get("cursor"), 10, 64)
	if err != nil {
		cursor = 0
	}
	if cursor < 0 {
		return fault.New(fault.Invalid, "invalid request, validation error cursor must not be negative").WithCode(codeBody)
	}
	f, size, next, err := a.cfg.Commands.Log(args[0], cursor)
	if err != nil {
		return err
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set(tailCursor, strconv.FormatInt(next, 10))
	w.WriteHeader(http.StatusOK)
	_, _ = io.CopyN(w, f, size)
	return nil
}

func missingQuery(name string) error {
	return fault.Newf(fault.Invalid, "missing query parameter '%s'", name).WithCode(codeQuery)
}

func (a *API) metricsOnce(w http.ResponseWriter, r *http.Request, _ []string) error {
	s, err := a.cfg.Metrics.Sample(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s)
}

// metricsWatch sends one sample a second, each followed by a blank line, until the client leaves.
func (a *API) metricsWatch(w http.ResponseWriter, r *http.Request, _ []string) error {
	sse.Headers(w.Header())
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	if err := rc.Flush(); err != nil {
		return nil
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var v any
		s, err := a.cfg.Metrics.Sample(r.Context())
		if v = s; err != nil {
			v = map[string]string{"error": err.Error()}
		}
		b, err := encode(v)
		if err != nil || r.Context().Err() != nil {
			return nil
		}
		if _, err := w.Write(append(b, '\n', '\n')); err != nil || rc.Flush() != nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return nil
		}
	}
}
