package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"opensandbox/libs/fault"
)

func TestParseKey(t *testing.T) {
	t.Parallel()
	body := []byte(`{"a":1}`)
	if k, err := parseKey(http.Header{}, body); err != nil || k.Set() {
		t.Errorf("no header: %+v, %v", k, err)
	}
	for _, name := range []string{"k", "8e03978e-40d5-43dd-bc93-6894a57f9324", strings.Repeat("x", 255), "a key ~"} {
		if k, err := parseKey(http.Header{keyHeader: {name}}, body); err != nil || k.Name != name || len(k.Hash) != 64 {
			t.Errorf("%q: %+v, %v", name, k, err)
		}
	}
	for what, values := range map[string][]string{
		"empty": {""}, "too long": {strings.Repeat("x", 256)}, "not ASCII": {"schlüssel"}, "control": {"a\tb"}, "twice": {"a", "b"},
	} {
		_, err := parseKey(http.Header{keyHeader: values}, body)
		if d := fault.DetailsOf(err); !fault.Is(err, fault.Invalid) || len(d) != 1 || d[0].Field != keyHeader || !strings.Contains(err.Error(), "1 to 255 printable ASCII") {
			t.Errorf("%s: %v %v", what, err, d)
		}
	}
}

func TestHashOf(t *testing.T) {
	t.Parallel()
	hash := func(body string) string {
		t.Helper()
		h, err := hashOf([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	same := hash(`{"a":{"x":1,"y":[1,2]},"b":"é"}`)
	for _, body := range []string{" {\n\"b\": \"\\u00e9\",\t\"a\": {\"y\": [1, 2], \"x\": 1} }", `{"a":{"x":0},"b":"é","a":{"x":1,"y":[1,2]}}`} {
		if hash(body) != same {
			t.Errorf("%s has another hash", body)
		}
	}
	for _, body := range []string{`{"a":{"x":1,"y":[2,1]},"b":"é"}`, `{"a":{"x":"1","y":[1,2]},"b":"é"}`, `{"a":{"x":1,"y":[1,2]},"b":"é","c":null}`,
		`{"a":{"x":10000000000000000000001,"y":[1,2]},"b":"é"}`} {
		if hash(body) == same {
			t.Errorf("%s has the same hash", body)
		}
	}
	if hash(`[10000000000000000000001]`) == hash(`[10000000000000000000002]`) {
		t.Error("large numbers are rounded")
	}
}

func FuzzHashOf(f *testing.F) {
	f.Add([]byte(`{"b":[1,{"a":null}],"a":"<é>"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := hashOf(body)
		if err == nil && len(h) != 64 {
			t.Errorf("%q has the hash %q", body, h)
		}
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q gave an unclassified error: %v", body, err)
		}
	})
}
