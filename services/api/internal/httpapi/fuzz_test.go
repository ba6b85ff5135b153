package httpapi

import (
	"encoding/json"
	"net/url"
	"testing"

	"opensandbox/libs/fault"
)

// blamed fails a test if a parser does not say that it is the request that is wrong: such an error would be answered as one of the server.
func blamed(t *testing.T, what, input string, err error) {
	t.Helper()
	if k := fault.KindOf(err); err != nil && k != fault.Invalid {
		t.Errorf("%s: %q gave an error of the kind %v: %v", what, input, k, err)
	}
}

// FuzzBodies: a small body is taken as it was meant, or refused as the fault of who has sent it.
func FuzzBodies(f *testing.F) {
	for _, s := range []string{
		`{"expiresAt":"2026-01-02T03:04:05Z"}`, `{"expires_at":"2026-01-02T03:04:05.1+02:00"}`, `{"expiresAt":1}`, `{"a":"b","c":null}`, `{"a":{}}`, `null`, `[]`,
		`{"eventType":"sandbox.create","success":true,"createDurationMs":12}`, `{"eventType":"sandbox.create","success":0,"createDurationMs":1e400}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		at, err := parseRenew([]byte(body))
		blamed(t, "renew", body, err)
		if again, ok := parseTime(stamp(at)); err == nil && at.Year() <= 9999 && (!ok || again.After(at)) {
			t.Errorf("renew: %q became %v, which is written as %q", body, at, stamp(at))
		}
		e, err := parseMetricsEvent([]byte(body))
		blamed(t, "event", body, err)
		if err == nil && (e.DurationMillis < 0 || e.DurationMillis > maxDurationMillis) {
			t.Errorf("event: %q became %+v", body, e)
		}
		patch, err := parsePatch([]byte(body))
		blamed(t, "patch", body, err)
		if err != nil {
			return
		}
		again, err := json.Marshal(patch)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := parsePatch(again); err != nil || len(second) != len(patch) {
			t.Errorf("patch: %q became %s, and that %v, %v", body, again, second, err)
		}
	})
}

// FuzzQueries: of a filter nothing is lost, and no query is the fault of the server.
func FuzzQueries(f *testing.F) {
	for _, s := range []string{"a=b&c=d", "a%3Db=%26", "use_server_proxy=yes", "use_server_proxy=1&expires=5", "expires=", "%zz", "a", ";"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		_, err := parseEndpointQuery(raw)
		blamed(t, "endpoint", raw, err)
		filter, err := parseMetadataFilter(raw)
		blamed(t, "filter", raw, err)
		if err != nil || filter == nil {
			return
		}
		q := url.Values{}
		for k, v := range filter {
			q.Set(k, v)
		}
		again, err := parseMetadataFilter(q.Encode())
		if err != nil || len(again) != len(filter) {
			t.Fatalf("filter: %q became %v, and that %v, %v", raw, filter, again, err)
		}
		for k, v := range filter {
			if again[k] != v {
				t.Errorf("filter: %q became %v, and that %v", raw, filter, again)
			}
		}
	})
}
