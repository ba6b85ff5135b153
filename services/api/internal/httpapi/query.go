package httpapi

import (
	"net/url"
	"strings"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/services/api/internal/usecase"
)

// Page sizes of OpenSandbox 1.1.1.
const (
	defaultPageSize = 20
	maxPageSize     = 200
	// maxPage keeps the offset of a page far from overflow.
	maxPage = 1 << 30
)

// parseList reads the query of a list: state is repeated for alternatives and compared without regard to case; of a parameter that
// is given twice the last one counts.
func parseList(raw string) (usecase.ListRequest, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return usecase.ListRequest{}, fault.New(fault.Invalid, "the query is not well-formed").WithDetails(fault.Detail{Field: "query", Problem: "not well-formed"})
	}
	req := usecase.ListRequest{Page: 1, PageSize: defaultPageSize}
	var details []fault.Detail
	if s, ok := last(q, "page"); ok {
		if req.Page, ok = atoi(s); !ok || req.Page < 1 || req.Page > maxPage {
			details = append(details, fault.Detail{Field: "page", Problem: "expected a whole number from 1"})
		}
	}
	if s, ok := last(q, "pageSize"); ok {
		if req.PageSize, ok = atoi(s); !ok || req.PageSize < 1 || req.PageSize > maxPageSize {
			details = append(details, fault.Detail{Field: "pageSize", Problem: "expected a whole number from 1 to 200"})
		}
	}
	if len(details) > 0 {
		return usecase.ListRequest{}, fault.Newf(fault.Invalid, "%s: %s", details[0].Field, details[0].Problem).WithDetails(details...)
	}
	for _, s := range q["state"] {
		req.States = append(req.States, stateNamed(s))
	}
	if s, ok := last(q, "metadata"); ok {
		req.Metadata, err = parseMetadataFilter(s)
	}
	return req, err
}

// stateNamed returns the state of that name, or one that no sandbox is ever in.
func stateNamed(s string) sandbox.State {
	for _, st := range sandbox.States() {
		if strings.EqualFold(string(st), s) {
			return st
		}
	}
	return sandbox.State("?" + s)
}

// parseMetadataFilter reads k=v&k2=v2, whose parts may be quoted once more: some published clients quote them, others do not.
func parseMetadataFilter(s string) (map[string]string, error) {
	if s == "" {
		return nil, nil
	}
	out := map[string]string{}
	for part := range strings.SplitSeq(s, "&") {
		k, v, ok := strings.Cut(part, "=")
		if !ok {
			return nil, badFilter("each part must have the form key=value")
		}
		key, err := url.QueryUnescape(k)
		if err != nil {
			return nil, badFilter("a key is not well-formed")
		}
		value, err := url.QueryUnescape(v)
		if err != nil {
			return nil, badFilter("a value is not well-formed")
		}
		out[key] = value
	}
	if len(out) > sandbox.MaxMetadataItems {
		return nil, badFilter("there are too many conditions")
	}
	return out, nil
}

func badFilter(problem string) error {
	return fault.New(fault.Invalid, "the metadata filter is not valid: "+problem+`; expected key=value pairs joined by "&"`).
		WithCode("INVALID_METADATA_FORMAT").WithDetails(fault.Detail{Field: "metadata", Problem: problem})
}

func last(q url.Values, name string) (string, bool) {
	v := q[name]
	if len(v) == 0 {
		return "", false
	}
	return v[len(v)-1], true
}
