package httpapi

import (
	"fmt"
	"strings"
	"testing"

	"opensandbox/libs/sandbox"
)

func TestParseAuth(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		auth string
		want sandbox.Credentials
	}{
		"both":          {`,"auth":{"username":"robot","password":"topsecret"}`, sandbox.Credentials{Username: "robot", Password: "topsecret"}},
		"null":          {`,"auth":null`, sandbox.Credentials{}},
		"none":          {``, sandbox.Credentials{}},
		"empty words":   {`,"auth":{"username":"","password":""}`, sandbox.Credentials{}},
		"token":         {`,"auth":{"username":"","password":"topsecret"}`, sandbox.Credentials{Password: "topsecret"}},
		"unknown field": {`,"auth":{"username":"u","password":"p","more":1}`, sandbox.Credentials{Username: "u", Password: "p"}},
	} {
		req, err := parseCreate([]byte(`{"image":{"uri":"b"` + c.auth + `},"entrypoint":["a"],"resourceLimits":{}}`))
		if err != nil || req.Credentials != c.want {
			t.Errorf("%s: %v; the credentials are as wanted: %t", name, err, req.Credentials == c.want)
		}
		if text := fmt.Sprintf("%v %+v %#v", req, req, req); strings.Contains(text, "topsecret") {
			t.Errorf("%s: a request that is printed shows them: %s", name, text)
		}
	}
}
