package cli_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"opensandbox/libs/cli"
	"opensandbox/libs/secrettest"
	"opensandbox/libs/settings"
)

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// result is what came of a call.
type result struct {
	code        int
	out, errors string
	ran         bool
	settings    settings.Settings
}

// call runs a program that ends with fail.
func call(t *testing.T, process settings.Process, fail error, vars map[string]string, args ...string) result {
	t.Helper()
	if _, ok := vars["HOME"]; !ok {
		vars["HOME"] = t.TempDir()
	}
	var out, errs strings.Builder
	var r result
	names := make([]string, 0, len(vars))
	for name := range vars {
		names = append(names, name)
	}
	r.code = cli.Run(t.Context(), cli.Program{Process: process, Version: "1.2.3", About: "Does things.", Check: settings.Settings.Guard,
		Run: func(_ context.Context, s settings.Settings) error { r.ran, r.settings = true, s; return fail }},
		cli.System{Args: args, Names: names, Stdout: &out, Stderr: &errs, Lookup: func(n string) (string, bool) { v, ok := vars[n]; return v, ok }})
	r.out, r.errors = out.String(), errs.String()
	return r
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	secret := secrettest.New("a secret of the command line")
	good := write(t, "[server]\nport = 9000\napi_key = \""+secret+"\"\n[internal]\nshared_secret = \""+secret+"\"\n[docker]\nnetwork_mode = \"bridge\"\n")
	noKey := write(t, "[server]\nport = 9000\n")
	typo := write(t, "[server]\napi_key = \""+secret+"\"\nprot = 1\n")
	broken := write(t, "[server]\nport = 9000\napi_key = "+secret+"\n")
	wrong := write(t, "[server]\nport = 0\napi_key = ['"+secret+"']\n[store]\nredis_url = 'redis://"+secret+"@h'\n[docker]\nsandbox_env = ['A="+secret+"']\n")
	missing := filepath.Join(t.TempDir(), "none.toml")
	redis := map[string]string{"OPENSANDBOX_STORE_TYPE": "redis", "OPENSANDBOX_STORE_REDIS_URL": "redis://:" + secret + "@h", "OPENSANDBOX_SERVER_API_KEY": secret}
	for name, c := range map[string]struct {
		args []string
		vars map[string]string
		fail error
		code int
		// out and errors must each contain all of these lines' parts.
		out, errors []string
		ran         bool
	}{
		"run":                 {args: []string{"--config", good}, ran: true},
		"run fails":           {args: []string{"--config=" + good}, fail: errors.New("port is taken"), code: 1, errors: []string{"opensandbox-server: port is taken\n"}, ran: true},
		"only environment":    {vars: map[string]string{"OPENSANDBOX_SERVER_API_KEY": secret, "OPENSANDBOX_LOG_LEVEL": "ERROR"}, ran: true},
		"redis, no secret":    {vars: redis, code: 1, errors: []string{"internal.shared_secret: must be set"}},
		"path by environment": {vars: map[string]string{"SANDBOX_CONFIG_PATH": good}, ran: true},
		"version":             {args: []string{"--version"}, out: []string{"1.2.3\n"}},
		"help":                {args: []string{"-h"}, out: []string{"usage: opensandbox-server", "--config PATH", "Does things."}},
		"long help":           {args: []string{"--help"}, out: []string{"usage: opensandbox-server"}},
		"unknown flag":        {args: []string{"--chek-config"}, code: 2, errors: []string{"unknown flag --chek-config; did you mean --check-config?", "usage:"}},
		"unknown flag, far":   {args: []string{"--nonsense=" + secret}, code: 2, errors: []string{"unknown flag --nonsense\n", "usage:"}},
		"argument":            {args: []string{secret}, code: 2, errors: []string{"unexpected argument", "usage:"}},
		"two actions":         {args: []string{"--version", "--health"}, code: 2, errors: []string{"--health and --version exclude each other"}},
		"abbreviated":         {args: []string{"--conf", good}, ran: true},
		"abbreviated with =":  {args: []string{"--conf=" + good}, ran: true},
		"an elder beginning":  {args: []string{"--c", good}, ran: true},
		"beginning of help":   {args: []string{"--he"}, out: []string{"usage: opensandbox-server"}},
		"beginning of health": {args: []string{"--heal=" + secret}, code: 2, errors: []string{"--health takes no value"}},
		"both abbreviated":    {args: []string{"--check", "--con", good}, out: []string{"configuration is valid\n"}},
		"one dash":            {args: []string{"-conf", good}, code: 2, errors: []string{"unknown flag --conf\n"}},
		"value like a flag":   {args: []string{"--config", "--vers"}, code: 1, errors: []string{"--vers: no such file"}},
		"no path":             {args: []string{"--config"}, code: 2, errors: []string{"--config needs a path"}},
		"empty path":          {args: []string{"--config", ""}, code: 2, errors: []string{"--config needs a path"}},
		"value for an action": {args: []string{"--health=" + secret}, code: 2, errors: []string{"--health takes no value"}},
		"bad syntax":          {args: []string{"---" + secret}, code: 2, errors: []string{"flags are written --name"}},
		"missing file":        {args: []string{"--config", missing}, code: 1, errors: []string{"opensandbox-server: configuration file: ", missing}},
		"missing, check":      {args: []string{"--check-config", "--config", missing}, code: 2, errors: []string{missing}},
		"broken file":         {args: []string{"--config", broken}, code: 1, errors: []string{broken + ": line 3, column 11: not valid TOML"}},
		"broken, check":       {args: []string{"--config", broken, "--check-config"}, code: 2, errors: []string{"line 3, column 11"}},
		"no key":              {args: []string{"--config", noKey}, code: 1, errors: []string{"no API key is configured"}},
		"no key, check":       {args: []string{"--config", noKey, "--check-config"}, out: []string{"configuration is valid"}, errors: []string{"warning: would not start: no API key is configured"}},
		"no key, print":       {args: []string{"--config", noKey, "--print-config"}, out: []string{"# api_key is not set"}},
		"insecure":            {args: []string{"--config", noKey}, vars: map[string]string{"OPENSANDBOX_INSECURE_SERVER": "YES"}, ran: true},
		"valid":               {args: []string{"--check-config", "--config", good}, out: []string{"configuration is valid\n"}},
		"unknown key":         {args: []string{"--check-config", "--config", typo}, out: []string{"configuration is valid\n"}, errors: []string{"warning: " + typo + ": server.prot: unknown, ignored; did you mean server.port?"}},
		"mistakes": {args: []string{"--check-config", "--config", wrong}, vars: map[string]string{"OPENSANDBOX_LOG_LEVEL": "loud"}, code: 2, errors: []string{
			"opensandbox-server: 5 mistakes:\n", "  " + wrong + ": server.port = 0: expected a whole number from 1 to 65535\n", "server.api_key = ***: ", "store.redis_url = ***: ",
			"docker.sandbox_env = ***: ", "  OPENSANDBOX_LOG_LEVEL = \"loud\": expected one of \"DEBUG\""}},
		"mistakes, run":    {args: []string{"--config", wrong}, code: 1, errors: []string{"4 mistakes"}},
		"mistakes, print":  {args: []string{"--print-config", "--config", wrong}, code: 2, errors: []string{"4 mistakes"}},
		"mistakes, health": {args: []string{"--health", "--config", wrong}, code: 1, errors: []string{"4 mistakes"}},
		"print": {args: []string{"--print-config", "--config", good}, vars: redis, out: []string{"[server]\n", "port = 9000 # file\n", "api_key = '***' # OPENSANDBOX_SERVER_API_KEY\n",
			"redis_url = '***' # OPENSANDBOX_STORE_REDIS_URL\n", "shared_secret = '***' # file\n", "pids_limit = 4096 # default\n"}},
	} {
		vars := map[string]string{}
		for k, v := range c.vars {
			vars[k] = v
		}
		r := call(t, settings.ProcessServer, c.fail, vars, c.args...)
		if r.code != c.code || r.ran != c.ran || (len(c.out) == 0) != (r.out == "") || len(c.errors) == 0 && strings.Contains(r.errors, "opensandbox-server: ") && !strings.Contains(r.errors, "warning") {
			t.Errorf("%s: exit code %d, ran %v\nstdout: %s\nstderr: %s", name, r.code, r.ran, r.out, r.errors)
		}
		for _, want := range c.out {
			if !strings.Contains(r.out, want) {
				t.Errorf("%s: %q is not in stdout:\n%s", name, want, r.out)
			}
		}
		for _, want := range c.errors {
			if !strings.Contains(r.errors, want) {
				t.Errorf("%s: %q is not in stderr:\n%s", name, want, r.errors)
			}
		}
		secrettest.Absent(t, name, r.out+r.errors+fmt.Sprintf("%v %+v %#v", r.settings, r.settings, r.settings))
	}
}

func TestSettingsReachTheProgram(t *testing.T) {
	t.Parallel()
	path := write(t, "[server]\nport = 9000\n[docker]\nnetwork_mode = 'bridge'\n")
	key := secrettest.New("the API key of a variable")
	r := call(t, settings.ProcessServer, nil, map[string]string{"OPENSANDBOX_SERVER_API_KEY": key, "OPENSANDBOX_LOG_LEVLE": "x"}, "--config", path)
	if r.settings.Server.Port != 9000 || r.settings.Server.APIKey.Reveal() != key || r.settings.Path != path || len(r.settings.Warnings) != 1 {
		t.Errorf("settings %+v", r.settings)
	}
	r = call(t, settings.ProcessScheduler, nil, map[string]string{"OPENSANDBOX_INSECURE_SERVER": "YES"})
	if r.code != 1 || !strings.Contains(r.errors, "opensandbox-scheduler: store.type") {
		t.Errorf("a scheduler on SQLite: exit code %d, %s", r.code, r.errors)
	}
}

func TestEndOfTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	lookup := func(n string) (string, bool) { return "YES", n == "OPENSANDBOX_INSECURE_SERVER" }
	for err, want := range map[error]int{nil: 0, context.Canceled: 0, fmt.Errorf("http: %w", context.Canceled): 0, errors.New("broken"): 1} {
		var errs strings.Builder
		p := cli.Program{Process: settings.ProcessServer, Run: func(context.Context, settings.Settings) error { return err }}
		sys := cli.System{Args: []string{"--config", write(t, "")}, Lookup: lookup, Stdout: &errs, Stderr: &errs}
		if code := cli.Run(ctx, p, sys); code != want {
			t.Errorf("%v: exit code %d, want %d", err, code, want)
		}
	}
	// Without a signal, a cancelled context is a failure inside.
	if r := call(t, settings.ProcessServer, context.Canceled, map[string]string{"OPENSANDBOX_INSECURE_SERVER": "YES"}); r.code != 1 {
		t.Errorf("exit code %d, want 1", r.code)
	}
}

func TestClosedOutput(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--version"}, {"--print-config"}, {"--check-config"}, {"-h"}} {
		var errs strings.Builder
		sys := cli.System{Args: args, Stdout: closed{}, Stderr: &errs, Lookup: func(string) (string, bool) { return "", false }}
		if code := cli.Run(t.Context(), cli.Program{Process: settings.ProcessServer, Version: "1"}, sys); code != 1 || !strings.Contains(errs.String(), "closed pipe") {
			t.Errorf("%v: exit code %d, %s", args, code, errs.String())
		}
	}
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, errors.New("closed pipe") }

func TestHealth(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			status = http.StatusTeapot
		}
		if status == http.StatusFound {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
	}))
	defer server.Close()
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	secret := secrettest.New("the shared secret")
	vars := func() map[string]string {
		return map[string]string{"OPENSANDBOX_SERVER_HOST": host, "OPENSANDBOX_SERVER_PORT": port, "HTTP_PROXY": "http://127.0.0.1:1",
			"OPENSANDBOX_STORE_TYPE": "redis", "OPENSANDBOX_STORE_REDIS_URL": "redis://h", "OPENSANDBOX_SERVER_ADMIN_LISTEN": ":" + port,
			"OPENSANDBOX_INTERNAL_SHARED_SECRET": secret}
	}
	server2 := vars()
	delete(server2, "OPENSANDBOX_SERVER_ADMIN_LISTEN")
	if r := call(t, settings.ProcessServer, nil, server2, "--health"); r.code != 0 || r.out != "healthy\n" || r.ran {
		t.Errorf("healthy: exit code %d, %s%s", r.code, r.out, r.errors)
	}
	if r := call(t, settings.ProcessScheduler, nil, vars(), "--health"); r.code != 0 || r.out != "healthy\n" {
		t.Errorf("healthy scheduler: exit code %d, %s%s", r.code, r.out, r.errors)
	}
	for _, status = range []int{http.StatusServiceUnavailable, http.StatusFound} {
		r := call(t, settings.ProcessScheduler, nil, vars(), "--health")
		if r.code != 1 || !strings.Contains(r.errors, fmt.Sprintf("not healthy: %s/health: status %d\n", server.URL, status)) {
			t.Errorf("status %d: exit code %d, %s%s", status, r.code, r.out, r.errors)
		}
	}
	server.Close()
	if r := call(t, settings.ProcessScheduler, nil, vars(), "--health"); r.code != 1 || !strings.Contains(r.errors, "not healthy: ") || !strings.Contains(r.errors, "refused") {
		t.Errorf("nobody listens: exit code %d, %s%s", r.code, r.out, r.errors)
	}
}
