//go:build e2e

package acceptance

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"opensandbox/tests/process"
)

// osbRunner runs the published command line many times: see clients/osb.py.
type osbRunner struct {
	t    *testing.T
	runs io.Writer
	out  *bufio.Reader
	// before are the options of every run.
	before []string

	mu sync.Mutex
	// paths are those of the requests that the server got.
	paths []string
}

// osbRun is what one run printed, and its exit status.
type osbRun struct {
	Status   int
	Out, Err string
}

// withOSB starts a runner, until the end of the test, that reaches daemons through the server or directly.
func (s *server) withOSB(t *testing.T, proxied bool) *osbRunner {
	t.Helper()
	o := &osbRunner{t: t}
	if proxied {
		o.before = []string{"--use-server-proxy"}
	}
	front := s.recordedTo(func(res *http.Response) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.paths = append(o.paths, res.Request.URL.Path)
	})
	python := filepath.Join(needEnv(t, "OPENSANDBOX_TEST_VENV"), "bin", "python")
	env := []string{"OPEN_SANDBOX_DOMAIN=" + strings.TrimPrefix(front, "http://"), "OPEN_SANDBOX_API_KEY=" + apiKey,
		"HOME=" + t.TempDir(), "NO_PROXY=*", "COLUMNS=200", "SSL_CERT_DIR=" + t.TempDir()} // to read all authorities takes longer than a run
	in, out := converse(t, "the runner of osb", process.Command(env, python, "clients/osb.py"))
	o.runs, o.out = in, bufio.NewReader(out)
	return o
}

// went fails unless the requests to the daemon of a sandbox went through the server, or none of them did.
func (o *osbRunner) went(id string, proxied bool) {
	o.t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, path := range []string{"command", "command/status/", "files/info", "files/upload", "directories"} {
		want := "/v1/sandboxes/" + id + "/proxy/44772/" + path
		if slices.ContainsFunc(o.paths, func(path string) bool { return strings.HasPrefix(path, want) }) != proxied {
			o.t.Errorf("through the server: %v, want %v: %s", !proxied, proxied, want)
		}
	}
}

// try runs osb.
func (o *osbRunner) try(stdin string, args ...string) osbRun {
	o.t.Helper()
	line, err := json.Marshal(m{"args": append(o.before[:len(o.before):len(o.before)], args...), "stdin": stdin})
	if err != nil {
		o.t.Fatal(err)
	}
	if _, err := o.runs.Write(append(line, '\n')); err != nil {
		o.t.Fatal(err)
	}
	var run osbRun
	answer, err := o.out.ReadBytes('\n')
	if err != nil {
		o.t.Fatal(err)
	}
	if err := json.Unmarshal(answer, &run); err != nil {
		o.t.Fatal(err)
	}
	return run
}

// prints runs osb, which must succeed and print what is wanted among other things, and returns all that it printed.
func (o *osbRunner) prints(want string, args ...string) string {
	o.t.Helper()
	run := o.try("", args...)
	if run.Status != 0 || !strings.Contains(run.Out, want) {
		o.t.Errorf("osb %q: %d %q %q, want %q", args, run.Status, run.Out, run.Err, want)
	}
	return run.Out
}

// exactly is prints for what is printed as it is.
func (o *osbRunner) exactly(want string, args ...string) {
	o.t.Helper()
	if run := o.try("", args...); run.Status != 0 || run.Out != want {
		o.t.Errorf("osb %q: %d %q %q, want %q", args, run.Status, run.Out, run.Err, want)
	}
}

// fails runs osb, which must say why it fails, and returns what it printed before.
func (o *osbRunner) fails(status int, why string, args ...string) string {
	o.t.Helper()
	run := o.try("", args...)
	if run.Status != status || !strings.Contains(run.Err, why) {
		o.t.Errorf("osb %q: %d %q %q, want %d and %q", args, run.Status, run.Out, run.Err, status, why)
	}
	return run.Out
}

// decoded runs osb for its JSON.
func (o *osbRunner) decoded(into any, args ...string) {
	o.t.Helper()
	run := o.try("", args...)
	if err := json.Unmarshal([]byte(run.Out), into); err != nil || run.Status != 0 {
		o.t.Fatalf("osb %q: %d %q %q: %v", args, run.Status, run.Out, run.Err, err)
	}
}
