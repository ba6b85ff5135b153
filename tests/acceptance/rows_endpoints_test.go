//go:build e2e

package acceptance

import (
	"fmt"
	"net/url"
	"regexp"
	"testing"
)

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
