package httpapi

import (
	"net/http"
	"strconv"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/terminal"
)

func (a *API) registerTerminals() {
	t := &a.routes
	t.on("POST", "/pty", a.createTerminal)
	t.on("GET", "/pty/{}", a.terminalStatus)
	t.on("DELETE", "/pty/{}", a.deleteTerminal)
	t.on("GET", "/pty/{}/ws", a.attachTerminal)
}

// createTerminal answers 201, unlike all other creates of this API, as in OpenSandbox 1.1.1.
func (a *API) createTerminal(w http.ResponseWriter, r *http.Request, _ []string) error {
	var req terminal.CreateRequest
	if err := decodeOptional(w, r, &req); err != nil {
		return err
	}
	id, err := a.cfg.Terminals.Create(&req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, map[string]string{"session_id": id})
}

func (a *API) terminalStatus(w http.ResponseWriter, _ *http.Request, args []string) error {
	st, err := a.cfg.Terminals.Status(args[0])
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, st)
}

func (a *API) deleteTerminal(w http.ResponseWriter, _ *http.Request, args []string) error {
	if err := a.cfg.Terminals.Delete(args[0]); err != nil {
		return err
	}
	return empty(w)
}

// attachOptions reads the query. An offset that is none counts as 0.
func attachOptions(r *http.Request) terminal.Options {
	q := r.URL.Query()
	since, err := strconv.ParseInt(q.Get("since"), 10, 64)
	if err != nil || since < 0 {
		since = 0
	}
	return terminal.Options{
		Pipe: q.Get("pty") == "0", Since: since, Takeover: q.Get("takeover") == "1", Viewer: q.Get("mode") == "viewer",
	}
}

// attachTerminal refuses with JSON what it can before the upgrade. A takeover happens only after it.
func (a *API) attachTerminal(w http.ResponseWriter, r *http.Request, args []string) error {
	o := attachOptions(r)
	now := o
	upgrade := wantsWebSocket(r)
	if !upgrade {
		now.Takeover = false
	}
	if err := a.cfg.Terminals.Check(args[0], now); err != nil {
		return err
	}
	if !upgrade {
		return fault.New(fault.Invalid, "this route speaks WebSocket only").WithCode(codeBody)
	}
	a.serveTerminal(w, r, args[0], o)
	return nil
}
