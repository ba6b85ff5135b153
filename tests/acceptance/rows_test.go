//go:build e2e

package acceptance

import (
	"bytes"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
)

// The tests named after rows, here and in the other files of rows, are the acceptance list of a drop-in server, a test for each row.

func TestRow01CreateAnswers202(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	a := s.do("POST", "/v1/sandboxes", spec(m{"metadata": m{"a": "b"}, "extensions": m{"opensandbox.extensions.x": "y"}}))
	b := a.json(t)
	if a.status != 202 || b["id"] == "" || b["status"].(m)["state"] != "Running" || b["metadata"].(m)["a"] != "b" || b["extensions"].(m)["opensandbox.extensions.x"] != "y" {
		t.Errorf("create: %v", a)
	}
	if ep, ok := b["entrypoint"].([]any); !ok || len(ep) != 3 {
		t.Errorf("entrypoint %v, want an array", b["entrypoint"])
	}
	times := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z$`)
	for _, k := range []string{"createdAt", "expiresAt"} {
		if !times.MatchString(b[k].(string)) {
			t.Errorf("%s = %v", k, b[k])
		}
	}
	if bytes.Contains(a.body, []byte(":null")) || b["image"] != nil {
		t.Errorf("nulls or an image in the answer to a create: %v", a)
	}
	id := b["id"].(string)
	got := s.do("GET", "/v1/sandboxes/"+id, nil)
	if g := got.json(t); got.status != 200 || g["image"].(m)["uri"] != image || g["expiresAt"] != b["expiresAt"] || g["createdAt"] != b["createdAt"] || bytes.Contains(got.body, []byte(":null")) {
		t.Errorf("get: %v", got)
	}
	plain := s.do("POST", "/v1/sandboxes", spec(m{"timeout": nil})).json(t)
	for _, k := range []string{"expiresAt", "metadata", "extensions"} {
		if _, there := plain[k]; there {
			t.Errorf("%s is there although nothing was given", k)
		}
	}
}

func TestRow02SuccessCodes(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	for _, c := range []struct {
		method, path string
		body         any
		want         int
		empty        bool
	}{
		{"POST", "/pause", nil, 202, true},
		{"POST", "/resume", nil, 202, true},
		{"GET", "", nil, 200, false},
		{"POST", "/renew-expiration", m{"expiresAt": time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)}, 200, false},
		{"PATCH", "/metadata", m{"a": "b"}, 200, false},
		{"GET", "/endpoints/44772", nil, 200, false},
		{"DELETE", "", nil, 204, true},
	} {
		a := s.do(c.method, "/v1/sandboxes/"+id+c.path, c.body)
		if a.status != c.want || (len(a.body) == 0) != c.empty {
			t.Errorf("%s %s: %v, want %d", c.method, c.path, a, c.want)
		}
		if c.want == 202 && a.header.Get("Content-Length") != "0" {
			t.Errorf("%s %s: Content-Length %q, want 0", c.method, c.path, a.header.Get("Content-Length"))
		}
	}
	if a := s.do("DELETE", "/v1/sandboxes/"+id, nil); a.status != 404 {
		t.Errorf("second delete: %v", a)
	}
}

func TestRow09Timeouts(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	absent := spec(nil)
	delete(absent, "timeout")
	for name, c := range map[string]struct {
		body    m
		status  int
		expires bool
	}{
		"integer": {spec(m{"timeout": 60}), 202, true},
		"null":    {spec(m{"timeout": nil}), 202, false},
		"absent":  {absent, 202, false},
		"a day":   {spec(m{"timeout": 86400}), 202, true},
		"short":   {spec(m{"timeout": 59}), 400, false},
		"text":    {spec(m{"timeout": "600"}), 400, false},
	} {
		a := s.do("POST", "/v1/sandboxes", c.body)
		if _, expires := a.json(t)["expiresAt"]; a.status != c.status || expires != c.expires {
			t.Errorf("%s: %v", name, a)
		}
	}
}

func TestRow10NullsAndUnknownThings(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	body := spec(m{"env": m{}, "metadata": m{}, "extensions": m{}, "volumes": nil, "platform": nil, "networkPolicy": nil, "secureAccess": false,
		"credentialProxy": nil, "snapshotId": nil, "templateId": nil, "lifecycle": nil, "resourceRequests": nil, "unknownField": m{"a": []int{1}}})
	if a := s.do("POST", "/v1/sandboxes", body, "X-Unknown", "header", "OPEN-SANDBOX-CLIENT-IP", "1.2.3.4"); a.status != 202 {
		t.Errorf("create: %v", a)
	}
}

func TestRow11ListFilters(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	a := s.create(m{"metadata": m{"team": "one", "kind": "x"}})
	b := s.create(m{"metadata": m{"team": "one", "kind": "y"}})
	c := s.create(m{"metadata": m{"team": "two"}})
	if r := s.do("POST", "/v1/sandboxes/"+c+"/pause", nil); r.status != 202 {
		t.Fatalf("pause: %v", r)
	}
	for query, want := range map[string][]string{
		"":                                  {c, b, a},
		"metadata=team%3Done":               {b, a},
		"metadata=team%3Done%26kind%3Dx":    {a},
		"metadata=team%253Done":             nil, // a key that nobody has, not an error: it has an = when it is unquoted
		"metadata=te%2561m%3Done":           {b, a},
		"state=Paused":                      {c},
		"state=paused&state=running":        {c, b, a},
		"state=Running&metadata=team%3Dtwo": nil,
		"state=Nonsense":                    nil,
	} {
		if query == "metadata=team%253Done" {
			if r := s.do("GET", "/v1/sandboxes?"+query, nil); r.status != 400 {
				t.Errorf("%s: %v", query, r)
			}
			continue
		}
		if got := ids(s.items(query)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	p := s.do("GET", "/v1/sandboxes?page=2&pageSize=2", nil).json(t)
	page := p["pagination"].(m)
	if len(p["items"].([]any)) != 1 || page["totalItems"] != 3.0 || page["totalPages"] != 2.0 || page["hasNextPage"] != false || page["page"] != 2.0 || page["pageSize"] != 2.0 {
		t.Errorf("second page: %v", p)
	}
}

func TestRow12RenewForms(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	at := time.Now().Add(2 * time.Hour).UTC().Truncate(time.Second)
	for _, form := range []string{at.Format("2006-01-02T15:04:05Z"), at.Format("2006-01-02T15:04:05+00:00"), at.In(time.FixedZone("", 3600)).Format(time.RFC3339),
		at.Format("2006-01-02T15:04:05.000Z"), at.Format("2006-01-02T15:04:05.000000+00:00")} {
		a := s.do("POST", "/v1/sandboxes/"+id+"/renew-expiration", m{"expiresAt": form})
		if a.status != 200 || a.json(t)["expiresAt"] != at.Format("2006-01-02T15:04:05Z") {
			t.Errorf("%s: %v", form, a)
		}
	}
	for body, want := range map[string]int{`{"expiresAt":"2001-01-01T00:00:00Z"}`: 400, `{"expiresAt":"soon"}`: 400, `{}`: 400, `{"expiresAt":null}`: 400, `{"expiresAt":5}`: 400} {
		wantEnvelope(t, body, s.do("POST", "/v1/sandboxes/"+id+"/renew-expiration", body), want)
	}
	forever := s.create(m{"timeout": nil})
	wantEnvelope(t, "renew without a deadline", s.do("POST", "/v1/sandboxes/"+forever+"/renew-expiration", m{"expiresAt": at}), 409)
}

func TestRow13MetricsEvents(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	a := s.do("POST", "/v1/metrics/events", m{"eventType": "sandbox.create", "createDurationMs": 120, "success": true, "sandboxId": "x", "image": "y"})
	if a.status != 204 || len(a.body) != 0 {
		t.Errorf("event: %v", a)
	}
	if a := s.do("POST", "/metrics/events", m{}); a.status != 404 {
		t.Errorf("root form: %v", a)
	}
	wantEnvelope(t, "bad event", s.do("POST", "/v1/metrics/events", m{"eventType": "other"}), 400)
}

func TestRow14DeleteCanBeRepeated(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			a, err := s.try("DELETE", "/v1/sandboxes/"+id, nil)
			if err != nil || (a.status != 204 && a.status != 404) {
				t.Errorf("delete: %v %v", a, err)
			}
		})
	}
	wg.Wait()
}

func TestRow19ManyCreatesAtOnce(t *testing.T) {
	s := start(t, "")
	const count = 40
	var wg sync.WaitGroup
	for range count {
		wg.Go(func() {
			a, err := s.try("POST", "/v1/sandboxes", spec(nil))
			if err != nil || a.status != 202 {
				t.Errorf("create: %v %v", a, err)
			}
		})
	}
	wg.Wait()
	s.eventually("all are Running", func() bool { return len(s.items("state=Running")) == count })
	for _, i := range s.items("") {
		wg.Go(func() {
			if a, err := s.try("DELETE", "/v1/sandboxes/"+i["id"].(string), nil); err != nil || (a.status != 204 && a.status != 503) {
				t.Errorf("delete: %v %v", a, err)
			}
		})
	}
	wg.Wait()
	s.eventually("all are gone", func() bool { return len(s.containers()) == 0 })
}
