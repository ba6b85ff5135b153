package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"opensandbox/services/execd/internal/command"
	"opensandbox/services/execd/internal/session"
)

func (a *API) registerSessions() {
	t := &a.routes
	t.on("POST", "/session", a.createSession)
	t.on("POST", "/session/{}/run", a.runInSession)
	t.on("DELETE", "/session/{}", a.deleteSession)
}

// decodeOptional is decode for routes whose body may be missing.
func decodeOptional(w http.ResponseWriter, r *http.Request, v any) error {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(v)
	if err != nil && !errors.Is(err, io.EOF) {
		return badBody(err)
	}
	return nil
}

func (a *API) createSession(w http.ResponseWriter, r *http.Request, _ []string) error {
	var req session.CreateRequest
	if err := decodeOptional(w, r, &req); err != nil {
		return err
	}
	id, err := a.cfg.Sessions.Create(&req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]string{"session_id": id})
}

func (a *API) runInSession(w http.ResponseWriter, r *http.Request, args []string) error {
	var req session.RunRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	consume(w, r)
	sink := &streamSink{w: w}
	began := time.Now()
	res, err := a.cfg.Sessions.Run(r.Context(), args[0], &req, sink)
	if sink.stream == nil {
		return err
	}
	defer sink.stream.Close()
	a.executed("run_in_session", err == nil && res.StartErr == nil && res.Code == 0, time.Since(began))
	switch {
	case errors.Is(err, command.ErrTimedOut):
		text := session.TimeoutText(req.Timeout)
		_ = sink.stream.Fail("TimeoutError", text, text)
	case err != nil:
		_ = sink.stream.Fail("CommandExecError", err.Error(), err.Error())
	case res.StartErr != nil:
		_ = sink.stream.Fail("CommandExecError", res.StartErr.Error(), res.StartErr.Error())
	case res.Code != 0:
		_ = sink.stream.Fail("CommandExecError", strconv.Itoa(res.Code), res.Problem)
	default:
		_ = sink.stream.Complete(res.Took)
	}
	return nil
}

func (a *API) deleteSession(w http.ResponseWriter, _ *http.Request, args []string) error {
	if err := a.cfg.Sessions.Delete(args[0]); err != nil {
		return err
	}
	return empty(w)
}
