package httpapi

import (
	"fmt"
	"testing"

	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
)

func TestParseAuth(t *testing.T) {
	t.Parallel()
	password := secrettest.New("a password of a registry")
	for name, c := range map[string]struct {
		auth string
		want sandbox.Credentials
	}{
		"both":          {`,"auth":{"username":"robot","password":"` + password + `"}`, sandbox.Credentials{Username: "robot", Password: password}},
		"null":          {`,"auth":null`, sandbox.Credentials{}},
		"none":          {``, sandbox.Credentials{}},
		"empty words":   {`,"auth":{"username":"","password":""}`, sandbox.Credentials{}},
		"token":         {`,"auth":{"username":"","password":"` + password + `"}`, sandbox.Credentials{Password: password}},
		"unknown field": {`,"auth":{"username":"u","password":"` + password + `","more":1}`, sandbox.Credentials{Username: "u", Password: password}},
	} {
		req, err := parseCreate([]byte(`{"image":{"uri":"b"` + c.auth + `},"entrypoint":["a"],"resourceLimits":{}}`))
		if err != nil || req.Credentials != c.want {
			t.Errorf("%s: %v; the credentials are as wanted: %t", name, err, req.Credentials == c.want)
		}
		secrettest.Absent(t, name, fmt.Sprintf("%v %+v %#v", req, req, req))
	}
}
