//go:build e2e

package acceptance

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The file routes under a user and a group do what that user may do, directly and through the server, and never more.
func TestRow27FilesUnderAnIdentity(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	direct, header := s.endpoint(id, 44772)
	proxied, _ := s.through(id, 44772)
	s.shell(id, "mkdir -m 777 /tmp/open; echo private >/tmp/open/private; chmod 600 /tmp/open/private; echo secret >/tmp/open/shared; "+
		"chmod 640 /tmp/open/shared; chgrp 4321 /tmp/open/shared; echo worker:x:1234:5678::/:/bin/sh >>/etc/passwd; echo four:x:4321:worker >>/etc/group")
	for _, url := range []string{direct, proxied} {
		as := func(uid, gid string) string { return url + "/v1/filesystem/" + uid + "/" + gid }
		get := func(uid, gid, path string) answer {
			a, err := request("GET", as(uid, gid)+"/files/download?path="+path, nil, header...)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		wantEnvelope(t, "a private file", get("54321", "54321", "/tmp/open/private"), http.StatusForbidden)
		wantEnvelope(t, "a file of a group", get("54321", "54321", "/tmp/open/shared"), http.StatusForbidden)
		wantEnvelope(t, "the memory of the daemon", get("54321", "54321", "/proc/1/environ"), http.StatusForbidden)
		for _, ids := range [][2]string{{"54321", "4321"}, {"1234", "99"}} { // The group of the request, and one of the account.
			if a := get(ids[0], ids[1], "/tmp/open/shared"); string(a.body) != "secret\n" {
				t.Errorf("as %v: %v", ids, a)
			}
		}
		if a := upload(t, as("1234", "99"), header, false, map[string]string{"/tmp/open/new/file": "of the worker"}); a.status != http.StatusOK {
			t.Errorf("upload: %v", a)
		}
		if got := output(s.shell(id, "stat -c '%u:%g %a' /tmp/open/new/file /tmp/open/new; rm -r /tmp/open/new"), "stdout"); got != "1234:99 644\n1234:99 755\n" {
			t.Errorf("the new file and its directory belong to %q", got)
		}
		if a, err := request("GET", as("1234", "99")+"/files/info", nil); err != nil || a.status != http.StatusUnauthorized {
			t.Errorf("without the token: %v %v", a, err)
		}
		a, err := request("GET", as("1234", "4294967295")+"/files/info", nil, header...)
		if err != nil {
			t.Fatal(err)
		}
		wantEnvelope(t, "a number that is none", a, http.StatusBadRequest)
	}
	s.eventually("no worker is left", func() bool {
		return !strings.Contains(output(s.shell(id, "for p in /proc/[0-9]*; do cat $p/cmdline | tr '\\0' ' '; done"), "stdout"), "file-worker")
	})
}

// A sandbox that runs as a normal user serves that user's own identity, and refuses every other one.
func TestRow27IdentityOfANormalUser(t *testing.T) {
	t.Parallel()
	s := startSingle(t, "") // The image is on this engine only.
	of := fmt.Sprintf("opensandbox/of-a-user:%d", os.Getpid())
	build := exec.Command("docker", "build", "-q", "-t", of, "-")
	build.Stdin = strings.NewReader("FROM " + image + "\nUSER 1234:5678\n")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		s.sweep() // What uses it.
		_ = exec.Command("docker", "rmi", of).Run()
	})
	id := s.create(m{"image": m{"uri": of}})
	url, header := s.endpoint(id, 44772)
	own := strings.Fields(output(s.shell(id, "id -u; id -g"), "stdout"))
	if len(own) != 2 || own[0] == "0" {
		t.Fatalf("the sandbox runs as %q, want a normal user", own)
	}
	prefix := "/v1/filesystem/" + own[0] + "/" + own[1]
	if a := upload(t, url+prefix, header, true, map[string]string{"/tmp/mine": "mine"}); a.status != http.StatusOK {
		t.Errorf("its own identity: %v", a)
	}
	for _, other := range []string{"/0/0", "/" + own[0] + "/0", "/54321/" + own[1]} {
		a, err := request("GET", url+"/v1/filesystem"+other+"/files/info", nil, header...)
		if err != nil {
			t.Fatal(err)
		}
		wantEnvelope(t, other, a, http.StatusNotImplemented)
	}
}

func TestRow27ByThePythonSDK(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	python := needEnv(t, "OPENSANDBOX_TEST_VENV") + "/bin/python"
	for _, args := range [][]string{{"async", image}, {"sync", image, "use_server_proxy"}} {
		out, err := s.program(python, append([]string{"clients/identity.py"}, args...)...)
		if err != nil || !strings.Contains(out, args[0]+" identity ok") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}
