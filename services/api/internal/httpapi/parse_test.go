package httpapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
	"opensandbox/services/api/internal/usecase"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// extensions is a create with one extension.
func extensions(name, value string) string {
	return fmt.Sprintf(`{%s,"extensions":{%q:%q}}`, minimal, name, value)
}

func manyLabels() string {
	var pairs []string
	for i := range maxNodeLabels + 1 {
		pairs = append(pairs, fmt.Sprintf("l%d=v", i))
	}
	return strings.Join(pairs, ",")
}

const minimal = `"image":{"uri":"busybox"},"entrypoint":["sleep","60"],"resourceLimits":{}`

func TestParseCreate(t *testing.T) {
	t.Parallel()
	base := sandbox.Spec{Image: "busybox", Entrypoint: []string{"sleep", "60"}}
	with := func(change func(*usecase.CreateRequest)) usecase.CreateRequest {
		r := usecase.CreateRequest{Spec: base}
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		body string
		want usecase.CreateRequest
	}{
		"minimal":          {`{` + minimal + `}`, with(func(*usecase.CreateRequest) {})},
		"nulls and extras": {`{` + minimal + `,"timeout":null,"env":null,"metadata":null,"volumes":[],"platform":null,"somethingNew":{"a":1},"snapshotId":null}`, with(func(*usecase.CreateRequest) {})},
		"npm's empty maps": {`{` + minimal + `,"env":{},"metadata":{},"extensions":{},"secureAccess":false}`, with(func(r *usecase.CreateRequest) { r.Metadata = map[string]string{} })},
		"snake case":       {`{"image":{"uri":"busybox"},"entrypoint":["sleep","60"],"resource_limits":{"cpu":"500m"}}`, with(func(r *usecase.CreateRequest) { r.Spec.Limits.CPU = 500 })},
		"timeout":          {`{` + minimal + `,"timeout":600.0}`, with(func(r *usecase.CreateRequest) { r.Spec.Timeout = 10 * time.Minute })},
		"env drops nulls": {`{` + minimal + `,"env":{"A":"1","B":null,"C":""}}`, with(func(r *usecase.CreateRequest) {
			r.Spec.Env, r.Spec.Unset = map[string]string{"A": "1", "C": ""}, []string{"B"}
		})},
		"extensions": {`{` + minimal + `,"extensions":{"opensandbox.extensions.x":"y","other":"ignored"}}`,
			with(func(r *usecase.CreateRequest) { r.Spec.Extensions = map[string]string{"opensandbox.extensions.x": "y"} })},
		"platform": {`{` + minimal + `,"platform":{"os":" Linux ","arch":"AARCH64"}}`, with(func(r *usecase.CreateRequest) { r.Spec.Needs.Platform = "linux/arm64" })},
		"renewals": {extensions(extRenew, " 600 "), with(func(r *usecase.CreateRequest) { r.Spec.RenewOnAccess = 10 * time.Minute })},
		"labels": {extensions(extLabels, "zone=a, example.com/disk=ssd,spare="),
			with(func(r *usecase.CreateRequest) {
				r.Spec.Needs.Labels = map[string]string{"zone": "a", "example.com/disk": "ssd", "spare": ""}
			})},
		"replaced": {extensions(extLost, "replace"), with(func(r *usecase.CreateRequest) { r.Spec.Replace = true })},
		"lost":     {extensions(extLost, "fail"), with(func(*usecase.CreateRequest) {})},
		"runtime":  {extensions(extRuntime, "runsc"), with(func(r *usecase.CreateRequest) { r.Spec.Needs.Runtime = "runsc" })},
		"gpus":     {`{"image":{"uri":"busybox"},"entrypoint":["sleep","60"],"resourceLimits":{"gpu":"2"}}`, with(func(r *usecase.CreateRequest) { r.Spec.GPUs = 2 })},
		"all gpus": {`{"image":{"uri":"busybox"},"entrypoint":["sleep","60"],"resourceLimits":{"gpu":" ALL "}}`, with(func(r *usecase.CreateRequest) { r.Spec.GPUs = sandbox.AllGPUs })},
		"requests": {`{` + minimal + `,"resourceRequests":{"memory":"1Gi","cpu":"1"}}`, with(func(r *usecase.CreateRequest) { r.Spec.Requests = sandbox.Resources{CPU: 1000, Memory: 1 << 30} })},
	} {
		got, err := parseCreate([]byte(c.body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func TestParseCreateRefuses(t *testing.T) {
	t.Parallel()
	password := secrettest.New("a password of a registry")
	for name, c := range map[string]struct{ body, field, code string }{
		"no object":           {`[]`, "body", ""},
		"null":                {`null`, "body", ""},
		"no image":            {`{"entrypoint":["a"],"resourceLimits":{}}`, "image", ""},
		"blank image":         {`{"image":{"uri":" "},"entrypoint":["a"],"resourceLimits":{}}`, "image.uri", ""},
		"image is a string":   {`{"image":"busybox","entrypoint":["a"],"resourceLimits":{}}`, "image", ""},
		"no entry point":      {`{"image":{"uri":"b"},"resourceLimits":{}}`, "entrypoint", ""},
		"empty entry point":   {`{"image":{"uri":"b"},"entrypoint":[],"resourceLimits":{}}`, "entrypoint", ""},
		"null in entry point": {`{"image":{"uri":"b"},"entrypoint":["a",null],"resourceLimits":{}}`, "entrypoint[1]", ""},
		"no limits":           {`{"image":{"uri":"b"},"entrypoint":["a"]}`, "resourceLimits", ""},
		"numeric limit":       {`{"image":{"uri":"b"},"entrypoint":["a"],"resourceLimits":{"cpu":1}}`, "resourceLimits", ""},
		"short timeout":       {`{` + minimal + `,"timeout":59}`, "timeout", ""},
		"huge timeout":        {`{` + minimal + `,"timeout":9223372036854775807}`, "timeout", ""},
		"fraction":            {`{` + minimal + `,"timeout":60.5}`, "timeout", ""},
		"text timeout":        {`{` + minimal + `,"timeout":"600"}`, "timeout", ""},
		"metadata null":       {`{` + minimal + `,"metadata":{"a":null}}`, "metadata[a]", ""},
		"env name":            {`{` + minimal + `,"env":{"A=B":"x"}}`, "env[A=B]", ""},
		"reserved env":        {`{` + minimal + `,"env":{"OPENSANDBOX_LIFECYCLE":"x"}}`, "env[OPENSANDBOX_LIFECYCLE]", ""},
		"policy":              {`{` + minimal + `,"networkPolicy":{}}`, "networkPolicy", sandbox.CodeInvalidParameter},
		"credential proxy":    {`{` + minimal + `,"credentialProxy":{"enabled":true}}`, "credentialProxy", sandbox.CodeInvalidParameter},
		"secure access":       {`{` + minimal + `,"secureAccess":true}`, "secureAccess", sandbox.CodeInvalidParameter},
		"lifecycle":           {`{` + minimal + `,"lifecycle":{}}`, "lifecycle", sandbox.CodeInvalidParameter},
		"windows":             {`{` + minimal + `,"platform":{"os":"Windows","arch":"amd64"}}`, "platform.os", sandbox.CodeInvalidParameter},
		"unknown system":      {`{` + minimal + `,"platform":{"os":"plan9","arch":"amd64"}}`, "platform.os", sandbox.CodeInvalidParameter},
		"unknown arch":        {`{` + minimal + `,"platform":{"os":"linux","arch":"riscv64"}}`, "platform.arch", sandbox.CodeInvalidParameter},
		"platform is text":    {`{` + minimal + `,"platform":"linux/amd64"}`, "platform", ""},
		"half a platform":     {`{` + minimal + `,"platform":{"os":"linux"}}`, "platform.arch", ""},
		"numeric platform":    {`{` + minimal + `,"platform":{"os":1,"arch":"amd64"}}`, "platform.os", ""},
		"short renewal":       {extensions(extRenew, "299"), "extensions[access.renew.extend.seconds]", sandbox.CodeInvalidParameter},
		"long renewal":        {extensions(extRenew, "86401"), "extensions[access.renew.extend.seconds]", sandbox.CodeInvalidParameter},
		"renewal in hex":      {extensions(extRenew, "0x400"), "extensions[access.renew.extend.seconds]", sandbox.CodeInvalidParameter},
		"empty renewal":       {extensions(extRenew, ""), "extensions[access.renew.extend.seconds]", sandbox.CodeInvalidParameter},
		"no label":            {extensions(extLabels, ""), "extensions[node.labels]", sandbox.CodeInvalidParameter},
		"label without value": {extensions(extLabels, "zone"), "extensions[node.labels]", sandbox.CodeInvalidParameter},
		"label twice":         {extensions(extLabels, "zone=a,zone=b"), "extensions[node.labels]", sandbox.CodeInvalidParameter},
		"strange label":       {extensions(extLabels, "zone=a b"), "extensions[node.labels]", sandbox.CodeInvalidParameter},
		"many labels":         {extensions(extLabels, manyLabels()), "extensions[node.labels]", sandbox.CodeInvalidParameter},
		"unknown loss":        {extensions(extLost, "Replace"), "extensions[node.lost]", sandbox.CodeInvalidParameter},
		"strange runtime":     {extensions(extRuntime, "run sc"), "extensions[node.runtime]", sandbox.CodeInvalidParameter},
		"gpu":                 {`{"image":{"uri":"b"},"entrypoint":["a"],"resourceLimits":{"gpu":"some"}}`, "resourceLimits.gpu", sandbox.CodeInvalidParameter},
		"memory":              {`{"image":{"uri":"b"},"entrypoint":["a"],"resourceLimits":{"memory":"lots"}}`, "resourceLimits.memory", sandbox.CodeInvalidParameter},
		"numeric auth":        {`{"image":{"uri":"b","auth":{"username":"u","password":1}},"entrypoint":["a"],"resourceLimits":{}}`, "image.auth.password", ""},
		"auth is a text":      {`{"image":{"uri":"b","auth":"` + password + `"},"entrypoint":["a"],"resourceLimits":{}}`, "image.auth", ""},
		"a colon in the user": {`{"image":{"uri":"b","auth":{"username":"u:` + password + `","password":"` + password + `"}},"entrypoint":["a"],"resourceLimits":{}}`, "image.auth.username", ""},
		"a long password":     {`{"image":{"uri":"b","auth":{"username":"u","password":"` + strings.Repeat(password, 500) + `"}},"entrypoint":["a"],"resourceLimits":{}}`, "image.auth.password", ""},
		"half an auth":        {`{"image":{"uri":"b","auth":{"password":"` + password + `"}},"entrypoint":["a"],"resourceLimits":{}}`, "image.auth.username", ""},
		"template":            {`{"templateId":"t"}`, "templateId", sandbox.CodeInvalidParameter},
		"snapshot":            {`{"snapshotId":"s","resourceLimits":{},"entrypoint":["a"]}`, "snapshotId", sandbox.CodeInvalidParameter},
	} {
		_, err := parseCreate([]byte(c.body))
		if !fault.Is(err, fault.Invalid) || fault.CodeOf(err) != c.code {
			t.Errorf("%s: error %v (code %q), want an invalid request with code %q", name, err, fault.CodeOf(err), c.code)
			continue
		}
		if d := fault.DetailsOf(err); len(d) == 0 || d[0].Field != c.field {
			t.Errorf("%s: details %v, want the first to name %q", name, d, c.field)
		}
		secrettest.Absent(t, name, err.Error())
	}
	if _, err := parseCreate([]byte(`{` + minimal + `,"extensions":{"bootstrap.execd.isolation":"enable"}}`)); !fault.Is(err, fault.Forbidden) {
		t.Errorf("isolation extension: %v, want forbidden", err)
	}
	if _, err := parseCreate([]byte(`{"extensions":{"poolRef":"p"}}`)); fault.CodeOf(err) != "SANDBOX::UNSUPPORTED_POOL_REF" {
		t.Errorf("pool: %v", err)
	}
}

func TestAllFaultyFieldsAreNamed(t *testing.T) {
	t.Parallel()
	_, err := parseCreate([]byte(`{"image":{},"entrypoint":[],"timeout":1,"env":{"":"x"}}`))
	var fields []string
	for _, d := range fault.DetailsOf(err) {
		fields = append(fields, d.Field)
	}
	if diff := cmp.Diff([]string{"image.uri", "entrypoint", "env[]", "timeout", "resourceLimits"}, fields); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestParseList(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]usecase.ListRequest{
		"":                              {Page: 1, PageSize: 20},
		"state=running&state=PAUSED":    {Page: 1, PageSize: 20, States: []sandbox.State{sandbox.StateRunning, sandbox.StatePaused}},
		"state=Allocated":               {Page: 1, PageSize: 20, States: []sandbox.State{"?Allocated"}},
		"page=2&pageSize=200":           {Page: 2, PageSize: 200},
		"metadata=a%3Db%2520c":          {Page: 1, PageSize: 20, Metadata: map[string]string{"a": "b c"}},
		"metadata=a%2526b%3Dc%2520d":    {Page: 1, PageSize: 20, Metadata: map[string]string{"a&b": "c d"}},
		"metadata=a%3Db%26note%3D":      {Page: 1, PageSize: 20, Metadata: map[string]string{"a": "b", "note": ""}},
		"metadata=":                     {Page: 1, PageSize: 20},
		"metadata=x%3D1&metadata=y%3D2": {Page: 1, PageSize: 20, Metadata: map[string]string{"y": "2"}},
	} {
		got, err := parseList(raw)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", raw, diff)
		}
	}
	for raw, code := range map[string]string{
		"page=0": "", "page=x": "", "pageSize=201": "", "pageSize=0": "", "page=99999999999999999999": "", "%zz": "",
		"metadata=novalue": "INVALID_METADATA_FORMAT", "metadata=a%3Db%26": "INVALID_METADATA_FORMAT", "metadata=a%3D%25zz": "INVALID_METADATA_FORMAT",
	} {
		if _, err := parseList(raw); !fault.Is(err, fault.Invalid) || fault.CodeOf(err) != code {
			t.Errorf("%q: %v, want code %q", raw, err, code)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, s := range []string{"2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00", "2026-01-02T04:04:05+01:00", "2026-01-02T03:04:05.000000+00:00", "2026-01-02T03:04:05", "2026-01-02T03:04:05.0Z"} {
		if got, ok := parseTime(s); !ok || !got.Equal(want) {
			t.Errorf("parseTime(%q) = %v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "tomorrow", "2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z"} {
		if got, ok := parseTime(s); ok {
			t.Errorf("parseTime(%q) = %v", s, got)
		}
	}
	for at, want := range map[time.Time]string{
		want: "2026-01-02T03:04:05Z", want.Add(123456789): "2026-01-02T03:04:05.123456Z", want.Add(999): "2026-01-02T03:04:05Z", {}: "",
	} {
		if got := stamp(at); got != want {
			t.Errorf("stamp = %q, want %q", got, want)
		}
	}
}

func FuzzParseCreate(f *testing.F) {
	f.Add([]byte(`{` + minimal + `,"timeout":60,"env":{"A":"b"}}`))
	f.Add([]byte(`{"image":{"uri":1}}`))
	f.Add([]byte(`{"a_b":1,"aB":2}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := parseCreate(body)
		if err == nil && (req.Spec.Image == "" || len(req.Spec.Entrypoint) == 0 || req.Spec.Timeout < 0) {
			t.Errorf("%q was taken as %+v", body, req)
		}
		if err != nil && fault.KindOf(err) == fault.Internal {
			t.Errorf("%q gave an unclassified error: %v", body, err)
		}
	})
}

func FuzzParseNodeLabels(f *testing.F) {
	f.Add("zone=a,disk=ssd")
	f.Add("a=,=b")
	f.Fuzz(func(t *testing.T, s string) {
		labels, err := parseNodeLabels("x", s)
		if err != nil {
			return
		}
		for name, value := range labels {
			if name == "" || strings.ContainsAny(name+value, "=, ") {
				t.Errorf("%q was taken as %q=%q", s, name, value)
			}
		}
	})
}

func FuzzParseList(f *testing.F) {
	f.Add("state=Running&metadata=a%3Db&page=1")
	f.Fuzz(func(t *testing.T, raw string) {
		req, err := parseList(raw)
		if err == nil && (req.Page < 1 || req.PageSize < 1 || req.PageSize > maxPageSize) {
			t.Errorf("%q was taken as %+v", raw, req)
		}
	})
}
