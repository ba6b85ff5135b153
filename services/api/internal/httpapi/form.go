package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"opensandbox/libs/fault"
)

// form is a JSON object that is taken apart field by field, so that every faulty field is reported, not only the first, and so that
// no value is ever repeated in an error: values can be secrets.
type form struct {
	prefix string
	fields map[string]json.RawMessage
	faults *[]fault.Detail
}

// parseForm takes a JSON object apart. Names in snake_case are taken for their camelCase forms, as OpenSandbox 1.1.1 does.
func parseForm(body []byte) (form, error) {
	var faults []fault.Detail
	f := form{faults: &faults}
	if err := json.Unmarshal(body, &f.fields); err != nil || f.fields == nil {
		return form{}, fault.New(fault.Invalid, "the body must be a JSON object").WithDetails(fault.Detail{Field: "body", Problem: "expected a JSON object"})
	}
	f.fields = camel(f.fields)
	return f, nil
}

func camel(in map[string]json.RawMessage) map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(in))
	for k, v := range in {
		if !strings.Contains(k, "_") {
			out[k] = v
		}
	}
	for k, v := range in {
		if name := camelName(k); name != k {
			if _, taken := out[name]; !taken {
				out[name] = v
			}
		}
	}
	return out
}

func camelName(s string) string {
	parts := strings.Split(s, "_")
	for i := 1; i < len(parts); i++ {
		if parts[i] != "" {
			parts[i] = strings.ToUpper(parts[i][:1]) + parts[i][1:]
		}
	}
	return strings.Join(parts, "")
}

// err returns what was wrong with all fields; nil if nothing was.
func (f form) err() error {
	if len(*f.faults) == 0 {
		return nil
	}
	first := (*f.faults)[0]
	return fault.Newf(fault.Invalid, "%s: %s", first.Field, first.Problem).WithDetails(*f.faults...)
}

func (f form) blame(field, problem string) {
	if len(*f.faults) < 20 {
		*f.faults = append(*f.faults, fault.Detail{Field: f.prefix + field, Problem: problem})
	}
}

// present reports whether the field is there and not null.
func (f form) present(field string) bool {
	raw, ok := f.fields[field]
	return ok && !bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

func (f form) str(field string) (string, bool) {
	var s string
	return s, f.decode(field, &s, "expected a string")
}

func (f form) boolean(field string) bool {
	var b bool
	f.decode(field, &b, "expected true or false")
	return b
}

func (f form) strings(field string) []string {
	var raw []*string
	if !f.decode(field, &raw, "expected an array of strings") {
		return nil
	}
	out := make([]string, 0, len(raw))
	for i, s := range raw {
		if s == nil {
			f.blame(fmt.Sprintf("%s[%d]", field, i), "expected a string")
			continue
		}
		out = append(out, *s)
	}
	return out
}

// integer takes whole numbers, also when they are written with a fraction of zero.
func (f form) integer(field string) (int64, bool) {
	var n json.Number
	if !f.present(field) {
		return 0, false
	}
	if bytes.HasPrefix(bytes.TrimSpace(f.fields[field]), []byte(`"`)) || json.Unmarshal(f.fields[field], &n) != nil {
		f.blame(field, "expected a whole number")
		return 0, false
	}
	if i, err := n.Int64(); err == nil {
		return i, true
	}
	if x, err := strconv.ParseFloat(n.String(), 64); err == nil && x == float64(int64(x)) && x > -1e15 && x < 1e15 {
		return int64(x), true
	}
	f.blame(field, "expected a whole number")
	return 0, false
}

// texts returns a map of strings; an entry that is null has a nil value.
func (f form) texts(field string) map[string]*string {
	var m map[string]*string
	f.decode(field, &m, "expected an object whose values are strings")
	return m
}

// plainTexts returns a map of strings in which null is a fault.
func (f form) plainTexts(field string) map[string]string {
	m := f.texts(field)
	if m == nil {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		if v == nil {
			f.blame(field+"["+clip(k)+"]", "expected a string")
			continue
		}
		out[k] = *v
	}
	return out
}

// object returns a nested object.
func (f form) object(field string) (form, bool) {
	var m map[string]json.RawMessage
	if !f.decode(field, &m, "expected an object") {
		return form{}, false
	}
	return form{prefix: f.prefix + field + ".", fields: camel(m), faults: f.faults}, true
}

// decode reports whether the field is present and could be read; if it is present and could not, it is blamed.
func (f form) decode(field string, into any, problem string) bool {
	if !f.present(field) {
		return false
	}
	if err := json.Unmarshal(f.fields[field], into); err != nil {
		f.blame(field, problem)
		return false
	}
	return true
}

func clip(s string) string {
	if len(s) <= 80 {
		return s
	}
	return strings.ToValidUTF8(s[:80], "") + "…"
}
