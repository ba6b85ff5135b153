//go:build e2e

package acceptance

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The tests of this file are the acceptance list of a drop-in server, a test for each row.

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

func TestRow03EndpointsRightAfterCreate(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	for _, port := range []int{44772, 18080, 8080, 1, 65535} {
		s.endpoint(id, port)
	}
}

func TestRow04EndpointForm(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	host := "^" + regexp.QuoteMeta(s.hostOf(id))
	for port, form := range map[int]string{44772: host + `:\d+/proxy/44772$`, 18080: host + `:\d+/proxy/18080$`, 8080: host + `:\d+$`} {
		a := s.do("GET", fmt.Sprintf("/v1/sandboxes/%s/endpoints/%d?use_server_proxy=false", id, port), nil)
		if e := a.json(t)["endpoint"].(string); !regexp.MustCompile(form).MatchString(e) {
			t.Errorf("port %d: %q", port, e)
		}
	}
	for query, want := range map[string]int{"use_server_proxy=maybe": 400, "use_server_proxy=true": 200, "use_server_proxy=false&expires=9": 400, "use_server_proxy=true&expires=9": 400} {
		if a := s.do("GET", "/v1/sandboxes/"+id+"/endpoints/8080?"+query, nil); a.status != want {
			t.Errorf("%s: %v", query, a)
		}
	}
	for _, port := range []string{"0", "65536", "x"} {
		if a := s.do("GET", "/v1/sandboxes/"+id+"/endpoints/"+port, nil); a.status != 400 {
			t.Errorf("port %s: %v", port, a)
		}
	}
}

func TestRow06NoAddressYet(t *testing.T) {
	t.Parallel()
	s := start(t, "[scheduler]\nplacement_wait_seconds = 60\nmax_sandboxes = 1\n")
	for range s.engines() {
		s.create(nil)
	}
	a := s.do("POST", "/v1/sandboxes", spec(nil), "Prefer", "respond-async")
	if a.status != 202 || a.json(t)["status"].(m)["state"] != "Pending" {
		t.Fatalf("create beyond the capacity: %v", a)
	}
	a = s.do("GET", "/v1/sandboxes/"+a.json(t)["id"].(string)+"/endpoints/44772", nil)
	if a.status != 404 || a.json(t)["code"] != "KUBERNETES::POD_IP_NOT_AVAILABLE" {
		t.Errorf("endpoint without an address: %v", a)
	}
}

// wantEnvelope fails unless a is an error with the envelope.
func wantEnvelope(t *testing.T, what string, a answer, status int) {
	t.Helper()
	e := a.json(t)
	if a.status != status || e["code"] == "" || e["code"] == nil || e["message"] == "" || e["message"] == nil {
		t.Errorf("%s: %v, want %d with code and message", what, a, status)
	}
	if !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") || a.header.Get("X-Request-ID") == "" {
		t.Errorf("%s: headers %v", what, a.header)
	}
}

func TestRow07EveryErrorHasTheEnvelope(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	url, header := s.endpoint(id, 44772)
	for _, c := range []struct {
		method, path string
		body         any
		header       []string
		want         int
	}{
		{"GET", "/v1/sandboxes", nil, []string{"OPEN-SANDBOX-API-KEY", ""}, 401},
		{"GET", "/v1/sandboxes", nil, []string{"OPEN-SANDBOX-API-KEY", "wrong"}, 401},
		{"GET", "/healthz", nil, []string{"OPEN-SANDBOX-API-KEY", ""}, 401},
		{"GET", "/v1/nothing", nil, nil, 404},
		{"GET", "/v1/sandboxes/unknown", nil, nil, 404},
		{"PUT", "/v1/sandboxes", nil, nil, 405},
		{"POST", "/v1/sandboxes", "{", nil, 400},
		{"POST", "/v1/sandboxes", m{}, nil, 400},
		{"POST", "/v1/sandboxes", "x", []string{"Content-Type", "text/plain"}, 415},
		{"POST", "/v1/sandboxes/" + id + "/resume", nil, nil, 409},
		{"GET", "/v1/snapshots", nil, nil, 501},
		{"GET", "/v1/templates", nil, nil, 501},
		{"GET", "/v1/pools", nil, nil, 501},
		{"GET", "/v1/sandboxes/" + id + "/networkpolicy", nil, nil, 501},
		{"GET", "/v1/sandboxes/unknown/diagnostics/logs", nil, nil, 404},
		{"GET", "/v1/sandboxes/" + id + "/diagnostics/logs?scope=nothing", nil, nil, 400},
		{"GET", "/v1/sandboxes/" + id + "/proxy/8080/a/b", nil, nil, 502},
	} {
		wantEnvelope(t, c.method+" "+c.path, s.do(c.method, c.path, c.body, c.header...), c.want)
	}
	for _, c := range []struct {
		method, path string
		body         any
		header       []string
		want         int
	}{
		{"GET", "/nothing", nil, header, 404},
		{"PUT", "/command", nil, header, 405},
		{"POST", "/command", "{", header, 400},
		{"POST", "/command", m{}, header, 400},
		{"GET", "/files/info?path=/nothing/there", nil, header, 404},
		{"GET", "/files/info?path=/", nil, nil, 401},
		{"POST", "/session/none/run", m{"command": "true"}, header, 500},
		{"DELETE", "/session/none", nil, header, 404},
		{"POST", "/code", m{}, header, 400},
		{"GET", "/v1/filesystem/root/0/files/info?path=/", nil, header, 400},
		{"POST", "/v1/isolated/session", m{}, header, 503},
	} {
		a, err := request(c.method, url+c.path, c.body, c.header...)
		if err != nil {
			t.Fatal(err)
		}
		wantEnvelope(t, "daemon "+c.method+" "+c.path, a, c.want)
	}
	closed := strings.Replace(url, "/proxy/44772", "/proxy/9", 1)
	a, err := request("GET", closed, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantEnvelope(t, "a port that nothing listens on", a, 502)
}

func TestRow08NoRedirects(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	url, header := s.endpoint(id, 44772)
	for _, path := range []string{"/v1/sandboxes/", "/sandboxes/", "//v1/sandboxes", "/v1//sandboxes", "/v1/v1/sandboxes", "/health/", "/v1/sandboxes/" + id + "/"} {
		if a := s.do("GET", path, nil); a.status != 200 {
			t.Errorf("%s: %v", path, a)
		}
	}
	for _, path := range []string{"/v1/./sandboxes", "/v1/x/../sandboxes"} {
		if a := s.do("GET", path, nil); a.status/100 == 3 {
			t.Errorf("%s: %v", path, a)
		}
	}
	for _, path := range []string{"/ping/", "//ping", "/metrics/"} {
		if a, err := request("GET", url+path, nil, header...); err != nil || a.status != 200 {
			t.Errorf("daemon %s: %v %v", path, a, err)
		}
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

func TestRow15Diagnostics(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	const secret = "not-to-be-shown" // not a listed one: the record and the engine have it
	id := s.create(m{"entrypoint": []string{"sh", "-c", "echo said-at-the-start; exec tail -f /dev/null"}, "env": m{"SECRET": secret}})
	path := "/v1/sandboxes/" + id + "/diagnostics/"
	for _, kind := range []string{"logs", "events", "inspect", "summary"} {
		a := s.do("GET", path+kind, nil, "Accept", "text/plain")
		if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") || strings.Contains(string(a.body), secret) {
			t.Errorf("%s: %v %v", kind, a, a.header)
		}
		if deprecated := a.header.Get("Deprecation") == "true"; deprecated != (kind == "logs" || kind == "events") {
			t.Errorf("%s: deprecated %v", kind, deprecated)
		}
	}
	s.eventually("the logs have what the entry point wrote", func() bool {
		return strings.Contains(string(s.do("GET", path+"logs", nil).body), "said-at-the-start")
	})
	for kind, scope := range map[string]string{"logs": "container", "events": "runtime"} {
		a := s.do("GET", path+kind+"?scope="+scope, nil)
		if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") || a.json(t)["scope"] != scope {
			t.Errorf("%s with a scope: %v", kind, a)
		}
	}
}

func TestRow18RequestIDs(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	for _, path := range []string{"/health", "/version", "/v1/sandboxes", "/v1/sandboxes/none", "/nothing"} {
		if got := s.do("GET", path, nil, "X-Request-ID", "mine-1").header.Get("X-Request-ID"); got != "mine-1" {
			t.Errorf("%s: id %q", path, got)
		}
		if got := s.do("GET", path, nil).header.Get("X-Request-ID"); len(got) != 32 {
			t.Errorf("%s: made id %q", path, got)
		}
	}
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

// upload sends files as the published clients do: pairs of a metadata part and a file part.
func upload(t *testing.T, url string, header []string, chunked bool, files map[string]string) answer {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for path, content := range files {
		meta, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="metadata"; filename="metadata"`}, "Content-Type": {"application/json"}})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(meta, `{"path":%q,"owner":null,"group":null,"mode":644}`, path)
		file, err := w.CreateFormFile("file", "ignored")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(file, content)
	}
	_ = w.Close()
	var r io.Reader = &body
	if chunked {
		r = io.MultiReader(&body)
	}
	req, err := http.NewRequest("POST", url+"/files/upload", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, b}
}

func TestAppsInSandboxesAreReached(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(m{"entrypoint": []string{"sh", "-c", "mkdir -p /tmp/w && echo hello > /tmp/w/index.html && httpd -p 8080 -h /tmp/w && httpd -f -p 3000 -h /tmp/w"}})
	for _, port := range []int{8080, 3000} {
		address, header := s.endpoint(id, port)
		if len(header) != 0 {
			t.Errorf("port %d: headers %v", port, header)
		}
		if _, err := url.Parse(address); err != nil {
			t.Error(err)
		}
		s.eventually(fmt.Sprintf("port %d answers", port), func() bool {
			a, err := request("GET", address+"/", nil)
			return err == nil && a.status == 200 && string(a.body) == "hello\n"
		})
	}
}
