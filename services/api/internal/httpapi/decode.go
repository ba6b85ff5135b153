package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/kitx"
	"opensandbox/libs/sandbox"
	"opensandbox/services/api/internal/usecase"
)

func decodeRef(_ context.Context, r *http.Request) (usecase.Ref, error) { return refOf(r), nil }

func decodeCreate(ctx context.Context, r *http.Request) (usecase.CreateRequest, error) {
	body, err := kitx.ReadJSON(ctx, r)
	if err != nil {
		return usecase.CreateRequest{}, err
	}
	req, err := parseCreate(body)
	if err != nil {
		return usecase.CreateRequest{}, err
	}
	req.Async = prefersAsync(r.Header)
	req.Key, err = parseKey(r.Header, body)
	return req, err
}

// prefersAsync reads the preference of RFC 7240.
func prefersAsync(h http.Header) bool {
	for _, line := range h.Values("Prefer") {
		for p := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(p, ";")
			if strings.EqualFold(strings.TrimSpace(name), "respond-async") {
				return true
			}
		}
	}
	return false
}

func decodeList(_ context.Context, r *http.Request) (usecase.ListRequest, error) {
	return parseList(r.URL.RawQuery)
}

func decodeRenew(ctx context.Context, r *http.Request) (usecase.RenewRequest, error) {
	req := usecase.RenewRequest{Ref: refOf(r)}
	body, err := kitx.ReadJSON(ctx, r)
	if err != nil {
		return req, err
	}
	req.ExpiresAt, err = parseRenew(body)
	return req, err
}

func parseRenew(body []byte) (time.Time, error) {
	f, err := parseForm(body)
	if err != nil {
		return time.Time{}, err
	}
	s, ok := f.str("expiresAt")
	at, good := parseTime(s)
	switch {
	case !f.present("expiresAt"):
		f.blame("expiresAt", "required: a time such as 2026-01-02T03:04:05Z")
	case ok && !good:
		f.blame("expiresAt", "expected a time such as 2026-01-02T03:04:05Z")
	}
	return at, f.err()
}

func decodePatch(ctx context.Context, r *http.Request) (usecase.PatchRequest, error) {
	req := usecase.PatchRequest{Ref: refOf(r)}
	body, err := kitx.ReadJSON(ctx, r)
	if err != nil {
		return req, err
	}
	req.Patch, err = parsePatch(body)
	return req, err
}

func parsePatch(body []byte) (map[string]*string, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return nil, fault.New(fault.Invalid, "the body must be a JSON object of strings and nulls").
			WithDetails(fault.Detail{Field: "body", Problem: "expected a JSON object"})
	}
	f := form{fields: fields, faults: new([]fault.Detail)}
	patch := make(map[string]*string, len(fields))
	for k := range fields {
		if !f.present(k) {
			patch[k] = nil
			continue
		}
		var v string
		if f.decode(k, &v, "expected a string or null") {
			patch[k] = &v
		}
	}
	return patch, f.err()
}

func decodeEndpoint(_ context.Context, r *http.Request) (usecase.EndpointRequest, error) {
	req := usecase.EndpointRequest{Ref: refOf(r)}
	port, ok := atoi(r.PathValue("port"))
	if !ok {
		return req, fault.New(fault.Invalid, "port: expected a whole number").WithDetails(fault.Detail{Field: "port", Problem: "expected a whole number"})
	}
	req.Port = port
	proxied, err := parseEndpointQuery(r.URL.RawQuery)
	if proxied {
		req.ServerProxy = &usecase.ServerProxy{Host: r.Host, V1: strings.HasPrefix(r.URL.Path, "/v1/")}
	}
	return req, err
}

// parseEndpointQuery returns whether the endpoint shall go through the server, and refuses the form that this server does not offer yet.
func parseEndpointQuery(raw string) (proxied bool, err error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return false, fault.New(fault.Invalid, "the query is not well-formed").WithDetails(fault.Detail{Field: "query", Problem: "not well-formed"})
	}
	proxied, err = queryBool(q, "use_server_proxy")
	if err != nil {
		return false, err
	}
	_, signed := last(q, "expires")
	switch {
	case proxied && signed:
		return false, fault.New(fault.Invalid, "use_server_proxy and expires exclude each other").WithCode(sandbox.CodeInvalidParameter)
	case signed:
		return false, fault.New(fault.Invalid, "expires: signed endpoints are not supported on the docker runtime").
			WithCode("SANDBOX::API_NOT_SUPPORTED").WithDetails(fault.Detail{Field: "expires", Problem: "not supported"})
	}
	return proxied, nil
}

// queryBool takes the spellings of OpenSandbox 1.1.1.
func queryBool(q url.Values, name string) (bool, error) {
	s, ok := last(q, name)
	if !ok {
		return false, nil
	}
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on", "t", "y":
		return true, nil
	case "false", "0", "no", "off", "f", "n":
		return false, nil
	}
	return false, fault.Newf(fault.Invalid, "%s: expected true or false", name).WithDetails(fault.Detail{Field: name, Problem: "expected true or false"})
}

// maxDurationMillis is the largest whole number that every client can write.
const maxDurationMillis = 1<<53 - 1

// MetricsEvent is what published clients report after a create.
type MetricsEvent struct {
	DurationMillis int64
	Success        bool
}

func decodeMetricsEvent(ctx context.Context, r *http.Request) (MetricsEvent, error) {
	body, err := kitx.ReadJSON(ctx, r)
	if err != nil {
		return MetricsEvent{}, err
	}
	return parseMetricsEvent(body)
}

func parseMetricsEvent(body []byte) (MetricsEvent, error) {
	f, err := parseForm(body)
	if err != nil {
		return MetricsEvent{}, err
	}
	if s, _ := f.str("eventType"); s != "sandbox.create" {
		f.blame("eventType", `expected "sandbox.create"`)
	}
	e := MetricsEvent{Success: f.boolean("success")}
	if !f.present("success") {
		f.blame("success", "required: true or false")
	}
	var ok bool
	if e.DurationMillis, ok = f.integer("createDurationMs"); !ok || e.DurationMillis < 0 || e.DurationMillis > maxDurationMillis {
		f.blame("createDurationMs", "expected a whole number of milliseconds from 0")
	}
	return e, f.err()
}

func renewedOf(at time.Time) renewBody { return renewBody{ExpiresAt: stamp(at)} }

func endpointOf(e usecase.Endpoint) endpointBody {
	return endpointBody{Endpoint: e.Address, Headers: e.Headers}
}
