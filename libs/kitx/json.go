package kitx

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"opensandbox/libs/fault"
)

// maxDepth bounds the nesting of JSON from strangers; no request needs a tenth of it.
const maxDepth = 64

// ReadJSON reads a request body that must be one JSON value of type application/json (or +json), in valid UTF-8 and not nested deeper
// than 64. The size is bounded by the listener.
func ReadJSON(_ context.Context, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		err = classify(err)
		if fault.Is(err, fault.TooLarge) {
			return nil, err
		}
		return nil, fault.New(fault.Invalid, "the body could not be read to its end").Because(err)
	}
	if len(body) == 0 {
		return nil, invalidBody("a body is required")
	}
	if t := r.Header.Get("Content-Type"); !isJSON(t) {
		return nil, fault.New(fault.UnsupportedMedia, "the Content-Type of the body must be application/json")
	}
	return body, CheckJSON(body)
}

func isJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "application/json" || (strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json")))
}

// CheckJSON checks that body is one JSON value in valid UTF-8 that is not nested too deep.
func CheckJSON(body []byte) error {
	if !utf8.Valid(body) {
		return invalidBody("not valid UTF-8")
	}
	depth, inString, escaped := 0, false, false
	for _, c := range body {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped = c == '\\'
			inString = c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return invalidBody(fmt.Sprintf("nested deeper than %d", maxDepth))
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	if !json.Valid(body) {
		return invalidBody("not valid JSON" + position(body))
	}
	return nil
}

// position says where a JSON text stops being one.
func position(body []byte) string {
	var v json.RawMessage
	err := json.Unmarshal(body, &v)
	if syntax, ok := err.(*json.SyntaxError); ok { //nolint:errorlint // Unmarshal returns it unwrapped
		return fmt.Sprintf(" at byte %d", syntax.Offset)
	}
	return ""
}

func invalidBody(problem string) error {
	return fault.New(fault.Invalid, "body: "+problem).WithDetails(fault.Detail{Field: "body", Problem: problem})
}
