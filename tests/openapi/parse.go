package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// name of the document among the resources of the compiler of schemas.
const resource = "openapi.json"

// rawResponse is an answer as it is written, in place or as a reference.
type rawResponse struct {
	Ref         string                     `json:"$ref"`
	Description string                     `json:"description"`
	Headers     map[string]json.RawMessage `json:"headers"`
	Content     map[string]struct {
		Schema json.RawMessage `json:"schema"`
	} `json:"content"`
}

// parser has what is needed while a document is read.
type parser struct {
	compiler *jsonschema.Compiler
	shared   map[string]rawResponse
}

// Parse reads a document. Objects in answers must have no fields beyond the documented ones, whatever the document says to clients.
func Parse(text []byte) (*Document, error) {
	var raw struct {
		Paths      map[string]map[string]json.RawMessage `json:"paths"`
		Components struct {
			Responses map[string]rawResponse `json:"responses"`
		} `json:"components"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("the OpenAPI document: %w", err)
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("the OpenAPI document: %w", err)
	}
	closeObjects(whole)
	p := parser{jsonschema.NewCompiler(), raw.Components.Responses}
	p.compiler.DefaultDraft(jsonschema.Draft2020)
	p.compiler.AssertFormat()
	if err := p.compiler.AddResource(resource, whole); err != nil {
		return nil, err
	}
	d := &Document{}
	if d.failure, err = p.compiler.Compile(resource + "#/components/schemas/Error"); err != nil {
		return nil, err
	}
	for path, item := range raw.Paths {
		for method, text := range item {
			if method == "parameters" || strings.HasPrefix(method, "x-") {
				continue
			}
			o, err := p.operation(path, method, text)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, path, err)
			}
			d.operations = append(d.operations, o)
		}
	}
	return d, nil
}

func (p *parser) operation(path, method string, text json.RawMessage) (operation, error) {
	var raw struct {
		Responses map[string]rawResponse `json:"responses"`
	}
	o := operation{method: strings.ToUpper(method), path: pattern(path), responses: map[string]response{}}
	if err := json.Unmarshal(text, &raw); err != nil {
		return o, err
	}
	for status, r := range raw.Responses {
		at := pointer("paths", path, method, "responses", status)
		if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
			r, at = p.shared[name], pointer("components", "responses", name)
		}
		read, err := p.response(at, r)
		if err != nil {
			return o, err
		}
		o.responses[status] = read
	}
	return o, nil
}

// code is how error codes are written in descriptions.
var code = regexp.MustCompile("`([A-Z][A-Z_]*(?:::[A-Z_]+)?)`")

func (p *parser) response(at string, raw rawResponse) (response, error) {
	r := response{content: map[string]*jsonschema.Schema{}}
	for name := range raw.Headers {
		r.headers = append(r.headers, http.CanonicalHeaderKey(name))
	}
	for _, m := range code.FindAllStringSubmatch(raw.Description, -1) {
		r.codes = append(r.codes, m[1])
	}
	for kind, c := range raw.Content {
		r.content[kind] = nil
		if c.Schema == nil {
			continue
		}
		schema, err := p.compiler.Compile(resource + "#" + at + pointer("content", kind, "schema"))
		if err != nil {
			return r, err
		}
		r.content[kind] = schema
	}
	return r, nil
}

// pointer returns a JSON pointer (RFC 6901), as it is written in a URL.
func pointer(parts ...string) string {
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
	var b strings.Builder
	for _, part := range parts {
		b.WriteString("/" + escape.Replace(part))
	}
	return b.String()
}

// pattern returns what matches the paths of a template. {path} takes the rest, with its slashes.
func pattern(template string) *regexp.Regexp {
	var b strings.Builder
	for part := range strings.SplitSeq(strings.TrimPrefix(template, "/"), "/") {
		switch {
		case part == "{path}":
			b.WriteString("/.*")
		case strings.HasPrefix(part, "{"):
			b.WriteString("/[^/]+")
		default:
			b.WriteString("/" + regexp.QuoteMeta(part))
		}
	}
	return regexp.MustCompile("^" + b.String() + "$")
}

// closeObjects forbids further fields in every schema of an object that says nothing about them.
func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		_, object := v["properties"].(map[string]any)
		if _, said := v["additionalProperties"]; object && !said && v["type"] == "object" {
			v["additionalProperties"] = false
		}
		for _, inner := range v {
			closeObjects(inner)
		}
	case []any:
		for _, inner := range v {
			closeObjects(inner)
		}
	}
}
