package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"opensandbox/libs/fault"
	"opensandbox/libs/kitx"
	"opensandbox/libs/sandbox"
	"opensandbox/services/api/internal/usecase"
)

// Bounds and defaults of OpenSandbox 1.1.1.
const (
	maxTail, maxLimit           = 10_000, 500
	defaultTail, defaultLimit   = 100, 50
	summaryTail, summaryLimit   = 50, 20
	scopedTail, scopedLimit     = 100, 50
	textType                    = "text/plain; charset=utf-8"
	codeScope                   = "DIAGNOSTICS_SCOPE_UNSUPPORTED"
	kindLogs, kindEvents        = "logs", "events"
	scopeAll                    = "all"
	onlyLogsNote, onlyEventNote = "all holds nothing but the logs of the container here", "all holds nothing but the events of the runtime here"
)

// diagnosticsRequest is what all four routes ask for.
type diagnosticsRequest struct {
	usecase.Ref
	tail, limit int
	// scope is the normalised scope; empty for the older form, which answers plain text.
	scope string
}

// descriptor is the answer to a request with a scope.
type descriptor struct {
	SandboxID     sandbox.ID `json:"sandboxId"`
	Kind          string     `json:"kind"`
	Scope         string     `json:"scope"`
	Delivery      string     `json:"delivery"`
	ContentType   string     `json:"contentType"`
	Content       string     `json:"content"`
	ContentLength int        `json:"contentLength"`
	Truncated     bool       `json:"truncated"`
	Warnings      []string   `json:"warnings,omitempty"`
}

func diagnostics(k *kitx.Kit, p string, u *usecase.UseCases) {
	base := "GET " + p + "/sandboxes/{id}/diagnostics/"
	kitx.Route(k, base+kindLogs, kitx.Op("DiagnoseLogs", http.StatusOK), decodeScoped("tail", maxTail, defaultTail, "container"), logsAnswer(u))
	kitx.Route(k, base+kindEvents, kitx.Op("DiagnoseEvents", http.StatusOK), decodeScoped("limit", maxLimit, defaultLimit, "runtime"), eventsAnswer(u))
	kitx.Route(k, base+"inspect", kitx.Op("DiagnoseInspect", http.StatusOK), decodeRef, func(ctx context.Context, ref usecase.Ref) (kitx.Text, error) {
		x, err := u.Examine(ctx, usecase.ExamineRequest{Ref: ref})
		return kitx.Text{Body: inspectText(&x)}, err
	})
	kitx.Route(k, base+"summary", kitx.Op("DiagnoseSummary", http.StatusOK), decodeSummary, summaryAnswer(u))
}

// decodeScoped decodes the query of logs and events. Ranges are checked before the scope, and the scope before the sandbox is looked up,
// as OpenSandbox 1.1.1 does.
func decodeScoped(count string, most, usual int, own string) func(context.Context, *http.Request) (diagnosticsRequest, error) {
	return func(_ context.Context, r *http.Request) (diagnosticsRequest, error) {
		q, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return diagnosticsRequest{}, badQuery("query", "not well-formed")
		}
		req := diagnosticsRequest{Ref: refOf(r)}
		n, err := ranged(q, count, most, usual)
		req.tail, req.limit = n, n
		if err != nil || !q.Has("scope") {
			return req, err
		}
		scope, _ := last(q, "scope")
		req.scope = strings.ToLower(strings.TrimSpace(scope))
		if !slices.Contains([]string{own, scopeAll}, req.scope) {
			return req, fault.Newf(fault.Invalid, "scope: expected %s or %s", own, scopeAll).WithCode(codeScope).
				WithDetails(fault.Detail{Field: "scope", Problem: "expected " + own + " or " + scopeAll})
		}
		req.tail, req.limit = scopedTail, scopedLimit
		return req, nil
	}
}

func decodeSummary(_ context.Context, r *http.Request) (diagnosticsRequest, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return diagnosticsRequest{}, badQuery("query", "not well-formed")
	}
	req := diagnosticsRequest{Ref: refOf(r)}
	if req.tail, err = ranged(q, "tail", maxTail, summaryTail); err != nil {
		return req, err
	}
	req.limit, err = ranged(q, "event_limit", maxLimit, summaryLimit)
	return req, err
}

// ranged returns a number of the query from 1 to most.
func ranged(q url.Values, name string, most, usual int) (int, error) {
	s, given := last(q, name)
	if !given {
		return usual, nil
	}
	n, ok := atoi(s)
	if !ok || n < 1 || n > most {
		return 0, badQuery(name, fmt.Sprintf("expected a whole number from 1 to %d", most))
	}
	return n, nil
}

func badQuery(field, problem string) error {
	return fault.New(fault.Invalid, field+": "+problem).WithDetails(fault.Detail{Field: field, Problem: problem})
}

func logsAnswer(u *usecase.UseCases) func(context.Context, diagnosticsRequest) (any, error) {
	return func(ctx context.Context, req diagnosticsRequest) (any, error) {
		l, err := u.Logs(ctx, usecase.LogsRequest{Ref: req.Ref, Tail: req.tail})
		if err != nil {
			return nil, err
		}
		return described(req, kindLogs, logsText(l.Lines), l.Truncated, onlyLogsNote), nil
	}
}

func eventsAnswer(u *usecase.UseCases) func(context.Context, diagnosticsRequest) (any, error) {
	return func(ctx context.Context, req diagnosticsRequest) (any, error) {
		x, err := u.Examine(ctx, usecase.ExamineRequest{Ref: req.Ref, Events: req.limit + 1})
		if err != nil {
			return nil, err
		}
		text, more := eventsText(&x, req.limit)
		warnings := []string{onlyEventNote}
		if x.Missing != "" {
			warnings = append(warnings, x.Missing)
		}
		return described(req, kindEvents, text, more, warnings...), nil
	}
}

// described returns the descriptor of a text, or the text itself for a request without a scope. The first warning is for scopeAll.
func described(req diagnosticsRequest, kind, text string, truncated bool, warnings ...string) any {
	if req.scope == "" {
		return kitx.Text{Body: text, Header: http.Header{"Deprecation": {"true"}}}
	}
	if req.scope != scopeAll {
		warnings = warnings[1:]
	}
	return descriptor{
		SandboxID: req.ID, Kind: kind, Scope: req.scope, Delivery: "inline", ContentType: textType, Content: text, ContentLength: len(text),
		Truncated: truncated, Warnings: warnings,
	}
}

func summaryAnswer(u *usecase.UseCases) func(context.Context, diagnosticsRequest) (kitx.Text, error) {
	return func(ctx context.Context, req diagnosticsRequest) (kitx.Text, error) {
		x, err := u.Examine(ctx, usecase.ExamineRequest{Ref: req.Ref, Events: req.limit + 1})
		if err != nil {
			return kitx.Text{}, err
		}
		events, _ := eventsText(&x, req.limit)
		l, err := u.Logs(ctx, usecase.LogsRequest{Ref: req.Ref, Tail: req.tail})
		logs := logsText(l.Lines)
		if fault.Is(err, fault.Unavailable) {
			logs = "[error] " + fault.TextOf(err)
		} else if err != nil {
			return kitx.Text{}, err
		}
		return kitx.Text{Body: summaryText(req.ID, inspectText(&x), events, logs)}, nil
	}
}
