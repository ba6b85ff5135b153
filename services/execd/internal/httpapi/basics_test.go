package httpapi

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestRouting(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	for _, path := range []string{"/ping", "/ping/", "//ping", "//ping//", "/proxy/" + s.url[strings.LastIndexByte(s.url, ':')+1:] + "/ping"} {
		s.do("GET", path, nil).wantEmpty(t)
	}
	s.do("HEAD", "/ping", nil).wantEmpty(t)
	s.do("GET", "/v1/v1//isolated/nothing", nil).wantError(t, 503, codeNotSupported)
	for _, path := range []string{"/", "/nope", "/ping/x", "/command/status", "/command/status/", "/command//logs", "/proxy", "/./ping", "/files"[:5],
		"/execution/instance", "/execution/operation", "/command/operations"} {
		s.do("GET", path, nil).wantError(t, 404, codeNotFound)
	}
	for _, tt := range []struct{ method, path, allow string }{
		{"POST", "/ping", "GET, HEAD"}, {"GET", "/command", "POST, DELETE"}, {"PUT", "/files/upload", "POST"}, {"TRACE", "/metrics", "GET"},
	} {
		a := s.do(tt.method, tt.path, nil)
		a.wantError(t, 405, codeMethod)
		if got := a.Header.Get("Allow"); got != tt.allow {
			t.Errorf("%s %s: Allow %q, want %q", tt.method, tt.path, got, tt.allow)
		}
	}
	s.do("POST", "/v1/isolated/session", "{}").wantError(t, 503, codeNotSupported)
	if a := s.do("GET", "/v1/isolated/sessions", nil); a.body != `{"sessions":[]}` {
		t.Errorf("sessions: %q", a.body)
	}
	var caps map[string]any
	a := s.do("GET", "/v1/isolated/capabilities", nil)
	if err := json.Unmarshal([]byte(a.body), &caps); err != nil || caps["available"] != false || len(caps) != 6 {
		t.Errorf("capabilities: %d %s", a.StatusCode, a.body)
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	for _, path := range []string{"/ping", "/nope", "/metrics"} {
		if got := s.do("GET", path, nil, "X-Request-ID", "abc-1").Header.Get("X-Request-ID"); got != "abc-1" {
			t.Errorf("%s: got id %q, want the client's", path, got)
		}
		if got := s.do("GET", path, nil).Header.Get("X-Request-ID"); len(got) != 32 {
			t.Errorf("%s: got id %q, want a new one", path, got)
		}
	}
	if got := s.do("GET", "/ping", nil, "X-Request-ID", strings.Repeat("x", 500)).Header.Get("X-Request-ID"); len(got) != 32 {
		t.Errorf("an oversized id was echoed: %d bytes", len(got))
	}
}

func TestTokenGuard(t *testing.T) {
	t.Parallel()
	s := start(t, setup{token: secret, openProxy: true})
	own := "/proxy/" + s.url[strings.LastIndexByte(s.url, ':')+1:]
	s.do("GET", "/ping", nil, TokenHeader, "").wantEmpty(t)
	s.do("GET", own+"/ping", nil, TokenHeader, "").wantEmpty(t)
	for _, token := range []string{"", "wrong", secret + "x", secret[:len(secret)-1]} {
		for _, path := range []string{"/metrics", "/nope", own + "/metrics", own + own + "/metrics", own + "//files/info", own, "/proxy", "/code"} {
			a := s.do("GET", path, nil, TokenHeader, token)
			a.wantError(t, 401, codeUnauthorized)
			var f failure
			if _ = json.Unmarshal([]byte(a.body), &f); f.Error == "" {
				t.Errorf("%s: the 401 has no error field: %s", path, a.body)
			}
		}
		s.do("POST", "/ping", nil, TokenHeader, token).wantError(t, 401, codeUnauthorized)
		s.do("POST", own+"/command", `{"command":"true"}`, TokenHeader, token).wantError(t, 401, codeUnauthorized)
	}
	if a := s.do("GET", own+"/files/info", nil); a.StatusCode != 200 || a.body != "{}" {
		t.Errorf("own port with token: got %d %s", a.StatusCode, a.body)
	}
	if a := s.do("GET", own+own+own+own+own+"/files/info", nil); a.StatusCode != 400 {
		t.Errorf("endless recursion: got %d %s, want 400", a.StatusCode, a.body)
	}
	s.do("GET", "/proxy/1/x", nil, TokenHeader, "").wantError(t, 502, "BACKEND_CONNECTION_FAILED")
	closed := start(t, setup{token: secret})
	closed.do("GET", "/proxy/1/x", nil, TokenHeader, "").wantError(t, 401, codeUnauthorized)
	closed.do("GET", "/proxy/1/x", nil).wantError(t, 502, "BACKEND_CONNECTION_FAILED")
}

func TestProxyPort(t *testing.T) {
	t.Parallel()
	s := start(t, setup{openProxy: true})
	for _, port := range []string{"0", "65536", "abc", "-1", "+80", "80%30", "99999999999999999999"} {
		s.do("GET", "/proxy/"+port+"/x", nil).wantError(t, 400, "INVALID_PORT")
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	var m map[string]float64
	if a := s.do("GET", "/metrics", nil); json.Unmarshal([]byte(a.body), &m) != nil || len(m) != 5 || m["cpu_count"] < 1 || m["mem_total_mib"] <= m["mem_used_mib"] {
		t.Errorf("metrics: %s", a.body)
	}
	res, err := http.Get(s.url + "/metrics/watch")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	rd := bufio.NewReader(res.Body)
	for range 2 {
		line, err := rd.ReadBytes('\n')
		if err != nil || json.Unmarshal(line, &m) != nil || len(m) != 5 {
			t.Fatalf("watch: %s %v", line, err)
		}
		if line, err = rd.ReadBytes('\n'); err != nil || len(line) != 1 {
			t.Fatalf("watch: got %q %v, want an empty line", line, err)
		}
	}
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("content type %q", got)
	}
}

func TestFold(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "/", "/": "/", "//": "/", "/a//b/": "/a/b", "/v1/v1/x": "/v1/x", "/v1/v1/v1": "/v1", "/x/v1/v1": "/x/v1/v1",
		"//proxy//80//a//b/": "/proxy/80//a//b/", "/proxy/80": "/proxy/80", "/proxy/80/": "/proxy/80/", "/proxy//": "/proxy",
		"/a/proxy//x": "/a/proxy/x",
	} {
		if got := fold(in); got != want {
			t.Errorf("fold(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzFold(f *testing.F) {
	f.Add("//v1/v1/proxy/80//x/")
	f.Fuzz(func(t *testing.T, p string) {
		once := fold(p)
		if !strings.HasPrefix(once, "/") {
			t.Fatalf("fold(%q) = %q", p, once)
		}
		if twice := fold(once); twice != once {
			t.Errorf("fold(%q) = %q, again %q", p, once, twice)
		}
	})
}
