package httpapi

import (
	"net/http"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/code"
	"opensandbox/services/execd/internal/command"
	"opensandbox/services/execd/internal/sse"
)

// codeSink opens the event stream when a run has started, so that everything before can still be a plain JSON error.
type codeSink struct {
	w      http.ResponseWriter
	stream *sse.Stream
	raised bool // The snippet has failed.
}

var _ code.Sink = (*codeSink)(nil)

// Started implements code.Sink.
func (s *codeSink) Started(id string) {
	s.stream = sse.Open(s.w)
	_ = s.stream.Init(id) // A failed write comes back with the next one.
}

// Text implements code.Output.
func (s *codeSink) Text(stream, text string) { _ = s.stream.Output(stream, [][]byte{[]byte(text)}) }

// Result implements code.Output.
func (s *codeSink) Result(count int, values map[string]string) {
	s.stream.Values("result", count, named(values))
}

// Display implements code.Output. OpenSandbox 1.1.1 leaves out what is displayed; its clients ignore events that they do not know.
func (s *codeSink) Display(values map[string]string) { s.stream.Values("display", 0, named(values)) }

// Raised implements code.Output.
func (s *codeSink) Raised(name, value string, trace []string) {
	s.raised = true
	s.stream.Raised(name, value, trace)
}

// named gives plain text both names that it has: some clients of OpenSandbox 1.1.1 read "text", others "text/plain".
func named(values map[string]string) map[string]string {
	if text, ok := values["text/plain"]; ok {
		values["text"] = text
	}
	return values
}

// runCode runs a snippet, in a kernel or as a command.
func (a *API) runCode(w http.ResponseWriter, r *http.Request, _ []string) error {
	var req struct {
		Code    string `json:"code"`
		Context struct {
			ID       string `json:"id"`
			Language string `json:"language"`
		} `json:"context"`
	}
	if err := decode(w, r, &req); err != nil {
		return err
	}
	if req.Code == "" {
		return fault.New(fault.Invalid, "invalid request, validation error code is required").WithCode(codeBody)
	}
	// As in OpenSandbox 1.1.1, but for a context without its language: there it is ignored, and the code goes to a shell.
	language := req.Context.Language
	if language == "command" || language == "background-command" || language == "" && req.Context.ID == "" {
		return a.streamCommand(w, r, &command.Request{Command: req.Code, Background: language == "background-command"})
	}
	consume(w, r)
	sink := &codeSink{w: w}
	began := time.Now()
	took, err := a.cfg.Code.Run(r.Context(), code.Request{Code: req.Code, ContextID: req.Context.ID, Language: language}, sink)
	if sink.stream == nil {
		return err
	}
	defer sink.stream.Close()
	if r.Context().Err() != nil {
		return nil // The client went away; the code goes on without it.
	}
	a.executed("run_code", err == nil && !sink.raised, time.Since(began))
	switch {
	case err != nil:
		_ = sink.stream.Fail(codeRuntime, describe(err), describe(err))
	default:
		_ = sink.stream.Complete(took)
	}
	return nil
}

// describe returns what a client may read. As with fail, an error that nobody classified is one of the sandbox itself.
func describe(err error) string {
	if fault.CodeOf(err) != "" {
		return fault.TextOf(err)
	}
	return err.Error()
}

// interrupt stops what runs under an id, of a context or of a command.
func (a *API) interrupt(w http.ResponseWriter, r *http.Request, args []string) error {
	id := r.URL.Query().Get("id")
	if !a.cfg.Code.Has(id) {
		return a.interruptCommand(w, r, args)
	}
	if err := a.cfg.Code.Interrupt(r.Context(), id); err != nil {
		return err
	}
	return empty(w)
}

func (a *API) createContext(w http.ResponseWriter, r *http.Request, _ []string) error {
	var req struct {
		Language string `json:"language"`
		Cwd      string `json:"cwd"`
	}
	if err := decode(w, r, &req); err != nil {
		return err
	}
	consume(w, r)
	c, err := a.cfg.Code.Create(r.Context(), req.Language, req.Cwd)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, c)
}

func (a *API) listContexts(w http.ResponseWriter, r *http.Request, _ []string) error {
	all, err := a.cfg.Code.List(r.URL.Query().Get("language"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, all)
}

func (a *API) deleteContexts(w http.ResponseWriter, r *http.Request, _ []string) error {
	language := r.URL.Query().Get("language")
	if language == "" {
		return missingQuery("language")
	}
	if err := a.cfg.Code.DeleteAll(r.Context(), language); err != nil {
		return err
	}
	return empty(w)
}

func (a *API) getContext(w http.ResponseWriter, _ *http.Request, args []string) error {
	c, err := a.cfg.Code.Get(args[0])
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, c)
}

func (a *API) deleteContext(w http.ResponseWriter, r *http.Request, args []string) error {
	if err := a.cfg.Code.Delete(r.Context(), args[0]); err != nil {
		return err
	}
	return empty(w)
}
