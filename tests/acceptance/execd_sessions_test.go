//go:build e2e

package acceptance

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// debian is built by scripts/images.sh, as is shellless, which has one program and no files.
const (
	debian    = documentedImage
	shellless = "opensandbox/scratch-static:dev"
)

// asUser makes an image of another that runs as a number that it has no account for, until the end of the test.
func asUser(t *testing.T, image, user string) string {
	t.Helper()
	made := "opensandbox/test-user:" + strings.ToLower(t.Name()) + "-" + user
	container := docker(t, "create", image, "true")
	docker(t, "commit", "--change", "USER "+user, container, made)
	docker(t, "rm", container)
	t.Cleanup(func() { docker(t, "rmi", made) })
	return made
}

// daemon is the execd of a sandbox by one of the ways to it.
type daemon struct {
	*server
	t      *testing.T
	url    string
	header []string
}

func (d daemon) call(method, path string, body any) answer {
	d.t.Helper()
	a, err := request(method, d.url+path, body, d.header...)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// run runs a script in a session and returns the events of its stream.
func (d daemon) run(session string, body m) []m {
	d.t.Helper()
	a := d.call("POST", "/session/"+session+"/run", body)
	if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream") {
		d.t.Fatalf("run: %v", a)
	}
	var events []m
	for frame := range strings.SplitSeq(strings.TrimSuffix(string(a.body), "\n\n"), "\n\n") {
		var e m
		if err := json.Unmarshal([]byte(frame), &e); err != nil {
			d.t.Fatalf("frame %q: %v", frame, err)
		}
		events = append(events, e)
	}
	return events
}

// ways are the images, users and ways to the daemon that shells are tried on.
func ways(t *testing.T, try func(t *testing.T, d daemon, image, user string)) {
	t.Helper()
	// Made before the server starts, so that they are removed after its last container.
	other, unknown := asUser(t, image, "65534"), asUser(t, debian, "12345")
	s := start(t, "")
	for _, c := range []struct{ name, image, used, user string }{
		{"busybox as root", image, image, "0"}, {"Debian as root", debian, debian, "0"},
		{"busybox as a user", image, other, "65534"}, {"Debian as a user without an account", debian, unknown, "12345"},
	} {
		id := s.create(m{"image": m{"uri": c.used}})
		direct, header := s.endpoint(id, 44772)
		through, proxied := s.through(id, 44772)
		t.Run(c.name, func(t *testing.T) { try(t, daemon{s, t, direct, header}, c.image, c.user) })
		t.Run(c.name+" through the server", func(t *testing.T) { try(t, daemon{s, t, through, proxied}, c.image, c.user) })
	}
}

func TestRow24EmptyBodyCreatesASession(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	direct, header := s.endpoint(id, 44772)
	through, proxied := s.through(id, 44772)
	for _, d := range []daemon{{s, t, direct, header}, {s, t, through, proxied}} {
		for _, body := range []any{nil, "", m{}} {
			a := d.call("POST", "/session", body)
			if id, _ := a.json(t)["session_id"].(string); a.status != 200 || id == "" {
				t.Errorf("create with %v: %v", body, a)
			}
		}
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	ways(t, func(t *testing.T, d daemon, used, user string) {
		dir := "/tmp/made/" + strings.ReplaceAll(filepath.Base(t.Name()), " ", "-")
		a := d.call("POST", "/session", m{"cwd": dir})
		session, _ := a.json(t)["session_id"].(string)
		prints := func(script, want string) {
			t.Helper()
			events := d.run(session, m{"command": script, "timeout": 30_000})
			if got, last := output(events, "stdout"), events[len(events)-1]; got != want || last["type"] != "execution_complete" || events[0]["text"] != session {
				t.Errorf("%q printed %q, want %q, and ended with %v", script, got, want, last)
			}
		}
		prints("id -u; pwd", user+"\n"+dir+"\n")
		prints(`mkdir sub; cd sub; export A="it's
2 lines"; echo err >&2; f() { echo f; }`, "err\n")
		prints(`printf '%s %s' "$A" "${PWD##*/}"`, "it's\n2 lines sub")
		if used == debian {
			prints("f", "f\n")
		}
		prints("cd ..; rmdir sub; sleep 30 & echo left", "left\n")
		events := d.run(session, m{"command": "export A=lost; exit 5"})
		if last := events[len(events)-1]; last["type"] != "error" || last["error"].(m)["evalue"] != "5" {
			t.Errorf("exit 5: %v", last)
		}
		events = d.run(session, m{"command": "sleep 300", "timeout": 300})
		if last := events[len(events)-1]; last["type"] != "error" || last["error"].(m)["ename"] != "TimeoutError" {
			t.Errorf("a time-out: %v", last)
		}
		prints("echo $A", "lost\n") // What was exported before the exit is kept.
		wantEnvelope(t, "a directory that is not there", d.call("POST", "/session/"+session+"/run", m{"command": "true", "cwd": "/no/such"}), 400)
		if a := d.call("DELETE", "/session/"+session, nil); a.status != 200 || a.header.Get("Content-Length") != "0" {
			t.Errorf("delete: %v", a)
		}
		wantEnvelope(t, "a second delete", d.call("DELETE", "/session/"+session, nil), 404)
		wantEnvelope(t, "a run in a deleted session", d.call("POST", "/session/"+session+"/run", m{"command": "true"}), 500)
	})
}

func TestSessionsNeedAShell(t *testing.T) {
	t.Parallel()
	needsAShell(t, "/session")
}

// needsAShell tries to make something of the daemon that needs a shell, in an image that has none.
func needsAShell(t *testing.T, path string) {
	t.Helper()
	s := start(t, "")
	id := s.create(m{"image": m{"uri": shellless}, "entrypoint": []string{"/app"}})
	url, header := s.endpoint(id, 44772)
	a := daemon{s, t, url, header}.call("POST", path, m{})
	wantEnvelope(t, path+" without a shell", a, 500)
	if !strings.Contains(string(a.body), "no shell") {
		t.Errorf("the answer does not say what is missing: %v", a)
	}
}

func TestPublishedPythonSDKSessions(t *testing.T) {
	t.Parallel()
	python := filepath.Join(needEnv(t, "OPENSANDBOX_TEST_VENV"), "bin", "python")
	s := start(t, "")
	for _, used := range []string{image, debian} {
		id := s.create(m{"image": m{"uri": used}})
		for _, args := range [][]string{{"async"}, {"sync"}, {"sync", "use_server_proxy"}} {
			out, err := s.program(python, append([]string{"clients/sessions.py", args[0], id}, args[1:]...)...)
			if err != nil || !strings.Contains(out, args[0]+" sessions ok") {
				t.Errorf("%s %v: %v\n%s", used, args, err, out)
			}
		}
	}
}

func TestPublishedJavaScriptSDKSessions(t *testing.T) {
	t.Parallel()
	module := filepath.Join(needEnv(t, "OPENSANDBOX_TEST_NODE_MODULES"), "@alibaba-group", "opensandbox", "dist", "index.js")
	s := start(t, "")
	id := s.create(nil)
	for _, way := range []string{"", "use_server_proxy"} {
		if out, err := s.program("node", "clients/sessions.mjs", module, id, way); err != nil || !strings.Contains(out, "js sessions ok") {
			t.Errorf("%q: %v\n%s", way, err, out)
		}
	}
}
