package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// session makes a session and returns its path.
func (s *sandbox) session(body any) string {
	s.t.Helper()
	var made map[string]string
	a := s.do("POST", "/session", body)
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || a.StatusCode != 200 || len(made["session_id"]) != 36 {
		s.t.Fatalf("session: %d %s", a.StatusCode, a.body)
	}
	return "/session/" + made["session_id"]
}

// in runs a script in a session and returns the events without pings.
func (s *sandbox) in(session string, body obj) []event {
	s.t.Helper()
	a := s.do("POST", session+"/run", body)
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("run: got %d %s %s", a.StatusCode, a.Header.Get("Content-Type"), a.body)
	}
	return parseEvents(s.t, a.body)
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d is gone", pid), func() bool { return syscall.Kill(pid, 0) != nil })
}

// pidIn waits until a script has written a process number to a file.
func pidIn(t *testing.T, path string) (pid int) {
	t.Helper()
	eventually(t, path+" is written", func() bool {
		b, _ := os.ReadFile(path)
		text, ok := strings.CutSuffix(string(b), "\n")
		if !ok {
			return false
		}
		var err error
		if pid, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
		return true
	})
	return pid
}

func TestSessionForms(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	for _, body := range []any{nil, "", "{}", obj{"cwd": filepath.Join(s.dir, "made", "here")}} {
		path := s.session(body)
		ev := s.in(path, obj{"command": "pwd"})
		if ev[0].Text != strings.TrimPrefix(path, "/session/") || outcome(t, ev) != "ok" {
			t.Errorf("body %v: %+v", body, ev)
		}
		if b, ok := body.(obj); ok && text(ev, "stdout") != b["cwd"].(string)+"\n" {
			t.Errorf("cwd: %q", text(ev, "stdout"))
		}
		s.do("DELETE", path, nil).wantEmpty(t)
		s.do("DELETE", path, nil).wantError(t, 404, "CONTEXT_NOT_FOUND")
		s.do("POST", path+"/run", obj{"command": "true"}).wantError(t, 500, codeRuntime)
	}
	s.do("POST", "/session", "{").wantError(t, 400, codeBody)
	s.do("POST", "/session", obj{"cwd": "$UNDEFINED/x"}).wantError(t, 400, codeBody)
	s.do("POST", "/session", obj{"cwd": "/dev/null/x"}).wantError(t, 500, codeRuntime)
	path := s.session(nil)
	for _, body := range []any{"", "{", obj{}, obj{"command": "a", "timeout": -1}, obj{"command": "a", "timeout": int64(1) << 62}, obj{"command": "a", "cwd": "/no/such"},
		obj{"command": "a\x00"}, obj{"command": "a", "envs": obj{"A-B": "c"}}} {
		s.do("POST", path+"/run", body).wantError(t, 400, codeBody)
	}
}

func TestSessionStream(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	path, pid := s.session(nil), filepath.Join(s.dir, "pid")
	for _, tt := range []struct{ script, out, end string }{
		{"echo out; echo err >&2; echo out", "out\nerr\nout\n", "ok"},
		{`printf 'a\n\nb\r\nc'`, "a\n\nb\r\nc", "ok"},
		{`printf '\377\000\n'`, "\ufffd\x00\n", "ok"},
		{"exit 3", "", "CommandExecError 3 exit status 3"},
		{"kill -9 $$", "", "CommandExecError -1 signal: killed"},
		{"printf '__ENV_DUMP_START__\\n__EXIT_CODE__:7\\n'; cat /proc/self/fd/102", "__ENV_DUMP_START__\n__EXIT_CODE__:7\n", "ok"},
		{"sleep 1000 & echo $! >" + pid + "; echo left", "left\n", "ok"},
		{"cat; echo end of input", "end of input\n", "ok"},
	} {
		ev := s.in(path, obj{"command": tt.script})
		if got := text(ev, "stdout"); got != tt.out || outcome(t, ev) != tt.end || text(ev, "stderr") != "" {
			t.Errorf("%q: %q and %q, want %q and %q", tt.script, got, outcome(t, ev), tt.out, tt.end)
		}
	}
	if err := syscall.Kill(pidIn(t, pid), syscall.SIGKILL); err != nil {
		t.Errorf("the process that was left behind: %v", err)
	}
}

func TestSessionVariables(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	if err := os.WriteFile(s.envFile, []byte("FROM_FILE='it is'\nEXECD_ACCESS_TOKEN=x\nWHERE="+s.dir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := s.session(obj{"cwd": "$WHERE/sub"})
	ev := s.in(path, obj{"command": `echo "$FROM_FILE/$EXECD_ACCESS_TOKEN/$EXECD_ENVS/$OPENSANDBOX_ID/$PWD"; echo "LATER=1" >>"$EXECD_ENVS"`})
	if got, want := text(ev, "stdout"), "it is//"+s.envFile+"/sb1/"+s.dir+"/sub\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.in(path, obj{"command": "export A=1; cd /; f() { echo f; }", "envs": obj{"B": "2"}})
	if got := text(s.in(path, obj{"command": `echo $A $B $PWD $LATER; f`}), "stdout"); got != "1 2 /\nf\n" {
		t.Errorf("the next run sees %q", got)
	}
	if got := text(s.in(s.session(nil), obj{"command": `echo "$A$LATER"`}), "stdout"); got != "1\n" {
		t.Errorf("another session sees %q", got)
	}
	if got := text(s.in(path, obj{"command": "pwd", "cwd": "$WHERE"}), "stdout") + text(s.in(path, obj{"command": "pwd"}), "stdout"); got != s.dir+"\n"+s.dir+"\n" {
		t.Errorf("cwd of a run: %q", got)
	}
	big := strings.Repeat("x", 300<<10)
	if got := text(s.in(path, obj{"command": "printf %s '" + big + "'"}), "stdout"); got != big {
		t.Errorf("a script of %d bytes printed %d", len(big), len(got))
	}
}

// A time-out, a client that leaves, a delete and an interrupt each end all processes of a run.
func TestSessionRunsEndWithTheirProcesses(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	script := func(pid string) string { return "export K=1; sleep 1000 & echo $! >" + pid + "; sleep 1000" }

	t.Run("time-out", func(t *testing.T) {
		t.Parallel()
		path, pid := s.session(nil), filepath.Join(s.dir, "timeout.pid")
		ev := s.in(path, obj{"command": script(pid), "timeout": 700})
		if got := outcome(t, ev); got != "TimeoutError timeout after 700ms timeout after 700ms" {
			t.Errorf("ended with %q", got)
		}
		gone(t, pidIn(t, pid))
		if got := text(s.in(path, obj{"command": "echo ${K-none}"}), "stdout"); got != "none\n" {
			t.Errorf("kept of a killed run: %q", got)
		}
	})
	t.Run("client leaves", func(t *testing.T) {
		t.Parallel()
		path, pid := s.session(nil), filepath.Join(s.dir, "left.pid")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		body, _ := json.Marshal(obj{"command": script(pid)})
		req, _ := http.NewRequestWithContext(ctx, "POST", s.url+path+"/run", strings.NewReader(string(body)))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		n := pidIn(t, pid)
		cancel()
		gone(t, n)
		if got := text(s.in(path, obj{"command": "echo on"}), "stdout"); got != "on\n" {
			t.Errorf("the session goes on with %q", got)
		}
	})
	for name, target := range map[string]string{"delete": "", "interrupt": "/command?id="} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, pid := s.session(nil), filepath.Join(s.dir, name+".pid")
			ended := make(chan []event)
			go func() { ended <- s.in(path, obj{"command": script(pid)}) }()
			n := pidIn(t, pid)
			at := path
			if target != "" {
				at = target + strings.TrimPrefix(path, "/session/")
			}
			s.do("DELETE", at, nil).wantEmpty(t)
			if got := outcome(t, <-ended); got != "CommandExecError -1 signal: killed" {
				t.Errorf("ended with %q", got)
			}
			gone(t, n)
			s.do("DELETE", path, nil).wantError(t, 404, "CONTEXT_NOT_FOUND")
		})
	}
}

// Runs of one session do not wait for each other.
func TestSessionRunsAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	path := s.session(nil)
	gate := filepath.Join(s.dir, "gate")
	var wg sync.WaitGroup
	wg.Go(func() {
		ev := s.in(path, obj{"command": "while [ ! -e " + gate + " ]; do sleep 0.02; done; export WHO=first"})
		if got := outcome(t, ev); got != "ok" {
			t.Errorf("the first run ended with %q", got)
		}
	})
	if got := text(s.in(path, obj{"command": "export WHO=second; echo done"}), "stdout"); got != "done\n" {
		t.Errorf("the second run printed %q", got)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if got := text(s.in(path, obj{"command": "echo $WHO"}), "stdout"); got != "first\n" {
		t.Errorf("the last run to end was the first, but the session has %q", got)
	}
}

// A slow reader holds back its own run only, and everything arrives.
func TestSessionBigOutput(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	path := s.session(nil)
	res, err := http.Post(s.url+path+"/run", "", strings.NewReader(`{"command":"yes 0123456789abcdef | head -n 200000"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := text(s.in(path, obj{"command": "echo beside"}), "stdout"); got != "beside\n" {
		t.Errorf("beside a slow reader: %q", got)
	}
	b, err := io.ReadAll(res.Body)
	if got := text(parseEvents(t, string(b)), "stdout"); err != nil || got != strings.Repeat("0123456789abcdef\n", 200000) {
		t.Errorf("%d bytes arrived, want %d: %v", len(got), 17*200000, err)
	}
}

// A run leaves no open file and no process of its own.
func TestSessionsLeaveNothing(t *testing.T) {
	s := start(t, setup{})
	path := s.session(nil)
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	s.in(path, obj{"command": "true"})
	before := open()
	for range 20 {
		s.in(path, obj{"command": "export A=1"})
	}
	eventually(t, fmt.Sprintf("no more than %d files are open", before), func() bool { return open() <= before })
}
