package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// document is the OpenAPI document as far as it is changed before it is served; everything else stays as it is written.
type document struct {
	OpenAPI    string            `json:"openapi"`
	Info       map[string]any    `json:"info"`
	Servers    json.RawMessage   `json:"servers"`
	Security   json.RawMessage   `json:"security"`
	Tags       []json.RawMessage `json:"tags"`
	Paths      paths             `json:"paths"`
	Components json.RawMessage   `json:"components"`
}

// pathItem is a path with its operations and what they have in common.
type pathItem struct {
	path string
	item map[string]json.RawMessage
}

// paths is an object of path items that keeps their order: it is that of the pages.
type paths []pathItem

// UnmarshalJSON implements json.Unmarshaler.
func (p *paths) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		i := pathItem{path: fmt.Sprint(name)}
		if err := d.Decode(&i.item); err != nil {
			return err
		}
		*p = append(*p, i)
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (p paths) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for n, i := range p {
		if n > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", i.path)
		item, err := json.Marshal(i.item)
		if err != nil {
			return nil, err
		}
		b.Write(item)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// The routes below /v1 are at the root too, unless they are marked. There they have a tag of their own, and names that tell them apart.
const (
	prefix    = "/v1"
	onlyMark  = "x-v1-only"
	rootTag   = "Without /v1"
	rootAbout = "The same routes for clients that put no version in front."
	suffix    = "WithoutVersion"
)

// complete returns the document with the version of this server and with the routes at the root.
func complete(source []byte, version string) ([]byte, error) {
	var d document
	if err := json.Unmarshal(source, &d); err != nil {
		return nil, fmt.Errorf("the OpenAPI document: %w", err)
	}
	if d.Info == nil {
		return nil, errors.New("the OpenAPI document has no info")
	}
	d.Info["version"] = version
	var root paths
	for _, i := range d.Paths {
		path, below := strings.CutPrefix(i.path, prefix+"/")
		_, only := i.item[onlyMark]
		delete(i.item, onlyMark)
		if !below || only {
			continue
		}
		item, err := atRoot(i.item)
		if err != nil {
			return nil, fmt.Errorf("the OpenAPI document: %s: %w", i.path, err)
		}
		root = append(root, pathItem{"/" + path, item})
	}
	d.Paths = append(d.Paths, root...)
	tag, err := json.Marshal(map[string]string{"name": rootTag, "description": rootAbout})
	if err != nil {
		return nil, err
	}
	d.Tags = append(d.Tags, tag)
	return json.Marshal(d)
}

// atRoot returns the item of a path for the same path without its prefix.
func atRoot(item map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	out := make(map[string]json.RawMessage, len(item))
	for key, value := range item {
		if key == "parameters" {
			out[key] = value
			continue
		}
		var operation map[string]json.RawMessage
		if err := json.Unmarshal(value, &operation); err != nil {
			return nil, err
		}
		var id string
		if err := json.Unmarshal(operation["operationId"], &id); err != nil {
			return nil, fmt.Errorf("operationId: %w", err)
		}
		for name, v := range map[string]any{"operationId": id + suffix, "tags": []string{rootTag}} {
			text, err := json.Marshal(v)
			if err != nil {
				return nil, err
			}
			operation[name] = text
		}
		text, err := json.Marshal(operation)
		if err != nil {
			return nil, err
		}
		out[key] = text
	}
	return out, nil
}
