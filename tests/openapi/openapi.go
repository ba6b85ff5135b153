// Package openapi holds the answers of a server against its OpenAPI document: the status, the content type, the body, the error code
// and the headers that say something must all be documented.
//
// It reads documents of this project only: parameters take one segment of a path but for the last one, responses are referred to by
// name or written in place, and error codes stand in backquotes in the descriptions of responses.
package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Document is a document to hold answers against. Use Parse. Its methods are safe for concurrent use.
type Document struct {
	operations []operation
	// failure is for answers of paths and methods without an operation.
	failure *jsonschema.Schema
}

// operation is what a method of a path may answer.
type operation struct {
	method    string
	path      *regexp.Regexp
	responses map[string]response
}

// response is one documented answer.
type response struct {
	// content has the schemas by content type. A type without one, such as any, is nil.
	content map[string]*jsonschema.Schema
	headers []string
	codes   []string
}

// Answer is what a server answered.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// telling are the headers that an answer may only have if they are documented.
var telling = []string{"Deprecation", "ETag", "Idempotent-Replayed", "Location", "Retry-After", "X-Request-ID"}

// Check returns what is wrong with the answer to a request for a path, which has no query; nil if nothing is. What programs behind ports
// of sandboxes answer is not looked at.
func (d *Document) Check(method, path string, a Answer) error {
	path = tidy(path)
	known := false
	for _, o := range d.operations {
		if !o.path.MatchString(path) {
			continue
		}
		if known = true; o.method == method {
			return o.check(a)
		}
	}
	expected := []int{http.StatusNotFound, http.StatusUnauthorized}
	if known {
		expected = []int{http.StatusMethodNotAllowed, http.StatusUnauthorized}
	}
	if !slices.Contains(expected, a.Status) {
		return fmt.Errorf("status %d for what is not documented; want one of %v", a.Status, expected)
	}
	return valid(d.failure, a.Body)
}

func (o *operation) check(a Answer) error {
	if _, any := o.responses["default"]; any {
		return nil
	}
	r, ok := o.responses[strconv.Itoa(a.Status)]
	if !ok {
		return fmt.Errorf("the status %d is not documented", a.Status)
	}
	if a.Header.Get("X-Request-ID") == "" {
		return errors.New("there is no X-Request-ID")
	}
	for _, name := range telling {
		if a.Header.Get(name) != "" && !slices.Contains(r.headers, http.CanonicalHeaderKey(name)) {
			return fmt.Errorf("the header %s is not documented for status %d", name, a.Status)
		}
	}
	if len(r.content) == 0 {
		if len(a.Body) > 0 {
			return fmt.Errorf("a body with the status %d, for which none is documented", a.Status)
		}
		return nil
	}
	kind, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	schema, typed := r.content[kind]
	if _, any := r.content["*/*"]; !typed && !any || err != nil {
		return fmt.Errorf("the content type %q is not documented for status %d", a.Header.Get("Content-Type"), a.Status)
	}
	if schema == nil || kind != "application/json" {
		return nil
	}
	if err := valid(schema, a.Body); err != nil || a.Status < http.StatusBadRequest {
		return err
	}
	var e struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(a.Body, &e); err != nil || !slices.Contains(r.codes, e.Code) {
		return fmt.Errorf("the code %q is not documented for status %d (%v)", e.Code, a.Status, r.codes)
	}
	return nil
}

func valid(schema *jsonschema.Schema, body []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	return schema.Validate(v)
}

// tidy does to a path what the server does before it looks for its route.
func tidy(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	for strings.HasPrefix(path, "/v1/v1/") {
		path = path[len("/v1"):]
	}
	return "/" + strings.Trim(path, "/")
}
