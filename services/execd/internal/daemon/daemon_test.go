package daemon

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"opensandbox/libs/secrettest"
	"opensandbox/services/execd/internal/environ"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	t.Parallel()
	variable, flag := secrettest.New("a token of the environment"), secrettest.New("a token of the command line")
	o, err := parse([]string{"--init", "--token-stdin", "--port", "45000", "--log-level", "7", "--", "sleep", "--x"}, []string{"EXECD_ACCESS_TOKEN=" + variable}, io.Discard)
	if err != nil || o.port != 45000 || !o.init || !o.tokenStdin || !o.openProxy || o.token != variable || o.logLevel != slog.LevelDebug ||
		strings.Join(o.argv, " ") != "sleep --x" || o.envFile != "/run/opensandbox/env" {
		t.Errorf("got %+v, %v", o, err)
	}
	env := []string{"EXECD_ACCESS_TOKEN=" + variable, "EXECD_ENVS=/x", "EXECD_ON_DISCONNECT=keep", "EXECD_SPILL_LIMIT=4096"}
	o, err = parse([]string{"--access-token", flag}, env, io.Discard)
	if err != nil || !o.keep || o.spillLimit != 4096 || o.token != flag || o.envFile != "/x" || o.port != DefaultPort || o.logLevel != slog.LevelWarn {
		t.Errorf("got %+v, %v", o, err)
	}
	for _, args := range [][]string{
		{"--init"}, {"x"}, {"--port", "0"}, {"--port", "70000"}, {"--log-level", "loud"}, {"--on-disconnect", "perhaps"}, {"--spill-limit", "1G"},
		{"--spill-limit", "-1"}, {"--nope"},
	} {
		if _, err := parse(args, nil, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

// TestJupyterSettings has the variables of the image: the entry point gets the token, which commands must not.
func TestJupyterSettings(t *testing.T) {
	t.Parallel()
	token, flag := secrettest.New("the token of Jupyter"), secrettest.New("a token of Jupyter on the command line")
	env := []string{"JUPYTER_HOST=http://127.0.0.1:44771", "JUPYTER_TOKEN=" + token, "EXECD_ACCESS_TOKEN=" + secrettest.New("the token of the daemon")}
	var out bytes.Buffer
	o, err := parse(nil, env, &out)
	if err != nil || o.jupyterURL != "http://127.0.0.1:44771" || o.jupyterToken != token {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err = parse([]string{"--jupyter-host", "https://x", "--jupyter-token", flag}, env, &out); err != nil || o.jupyterURL != "https://x" || o.jupyterToken != flag {
		t.Errorf("got %+v, %v", o, err)
	}
	if _, err := parse([]string{"--help"}, env, &out); err == nil {
		t.Error("--help is no error")
	}
	secrettest.Absent(t, "the help", out.String())
	commands := environ.Visible(env)
	if got := strings.Join(forEntryPoint(commands, token), " "); strings.Contains(strings.Join(commands, " "), token) || !strings.Contains(got, "JUPYTER_TOKEN="+token) {
		t.Errorf("commands get %v, the entry point %v", commands, got)
	}
	if got := forEntryPoint(commands, ""); len(got) != len(commands) {
		t.Errorf("without a token the entry point gets %v", got)
	}
	for _, bad := range []string{"", "localhost:44771"} {
		o.jupyterURL = bad
		s, c := codeContexts(o, nil, slog.New(slog.DiscardHandler))
		s.Close()
		if c != nil {
			c.Close()
			t.Errorf("%q was taken for an address", bad)
		}
	}
}

func TestReadHandover(t *testing.T) {
	t.Parallel()
	token := secrettest.New("the token of a daemon")
	tests := []struct {
		name, in  string
		token     string
		openProxy bool
		err       string
	}{
		{"token", `{"token":"` + token + `"}` + "\nrest", token, true, ""},
		{"closed proxy", `{"token":"` + token + `","open_proxy":false,"later":1}` + "\n", token, false, ""},
		{"no newline", `{"token":"` + token + `"}`, "", false, "stdin was closed"},
		{"nothing", "", "", false, "stdin was closed"},
		{"not JSON", token + "\n", "", false, "not the expected JSON"},
		{"empty token", "{}\n", "", false, "token is empty"},
		{"too long", strings.Repeat("x", maxTokenLine+1), "", false, "longer than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			written := make(chan struct{})
			go func() {
				defer close(written)
				_, _ = io.WriteString(w, tt.in)
				w.Close()
			}()
			h, err := readHandover(int(r.Fd()), time.Minute)
			r.Close()
			<-written
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want an error with %q", err, tt.err)
				}
				secrettest.Absent(t, "the error", fmt.Sprint(err))
				return
			}
			if err != nil || h.Token != tt.token || (h.OpenProxy == nil || *h.OpenProxy) != tt.openProxy {
				t.Errorf("got %+v, %v", h, err)
			}
		})
	}
}

func TestReadHandoverTimesOut(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := readHandover(int(r.Fd()), 10*time.Millisecond); err == nil || !strings.Contains(err.Error(), "no line came within") {
		t.Errorf("got %v", err)
	}
}

// TestEntryPointDecides runs the whole program, not as PID 1. It is not parallel: only one reaper may own the test's children.
func TestEntryPointDecides(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(free.Addr().(*net.TCPAddr).Port)
	free.Close()
	env := append(os.Environ(), "EXECD_ENVS="+filepath.Join(t.TempDir(), "env"))
	for _, tt := range []struct {
		port, script string
		code         int
		out          string
	}{
		{port, "exit 3", 3, ""},
		{port, "sleep 0.1; exit 4", 4, ""},
		{port, "sleep 1000 & sleep 0.1; kill -9 $$", 137, ""},
		{taken, "sleep 1000", 1, "port " + taken + " was in use for 2s: listen tcp4 0.0.0.0:" + taken + ": bind: address already in use"},
	} {
		var out bytes.Buffer
		if got := Run([]string{"--init", "--port", tt.port, "--", "sh", "-c", tt.script}, env, &out, &out); got != tt.code || !strings.Contains(out.String(), tt.out) {
			t.Errorf("%q: got %d %q, want %d and %q", tt.script, got, out.String(), tt.code, tt.out)
		}
	}
	ln.Close()
}

func TestClone3Words(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]bool{"": false, "no": false, "0": false, "1": true, "Yes": true, "reexec": true} {
		if o, err := parse(nil, []string{clone3Variable + "=" + word}, io.Discard); err != nil || o.hideClone3 != want {
			t.Errorf("%q: got %t, %v, want %t", word, o.hideClone3, err, want)
		}
	}
	if _, err := parse(nil, []string{clone3Variable + "=maybe"}, io.Discard); err == nil || !strings.Contains(err.Error(), `EXECD_CLONE3_COMPAT: "maybe" is none of`) {
		t.Errorf("got %v", err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"--version"}, 0, "opensandbox-execd"}, {[]string{"--help"}, 0, "-token-stdin"}, {[]string{"--bad"}, 2, "not defined"},
		{[]string{"--runtime-init"}, 2, "not defined"},
		{[]string{"--health", "--port", "1"}, 1, "connection refused"},
	} {
		var out bytes.Buffer
		if got := Run(tt.args, nil, &out, &out); got != tt.code || !strings.Contains(out.String(), tt.out) {
			t.Errorf("%q: got %d %q, want %d and %q", tt.args, got, out.String(), tt.code, tt.out)
		}
	}
}
