package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"opensandbox/services/execd/internal/command"
)

type obj = map[string]any

func TestForeground(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	sub := filepath.Join(s.dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name            string
		body            obj
		out, err, final string
	}{
		{"echo", obj{"command": "echo hi"}, "hi\n", "", "ok"},
		{"terminators", obj{"command": `printf 'a\n\nb\r\n50%%\rrest'`}, "a\n\nb\r\n50%\rrest", "", "ok"},
		{"stderr and code", obj{"command": "echo no >&2; exit 3"}, "", "no\n", "CommandExecError 3 exit status 3"},
		{"signal", obj{"command": "kill -9 $$"}, "", "", "CommandExecError -1 signal: killed"},
		{"time-out", obj{"command": "sleep 100 & sleep 100", "timeout": 50}, "", "", "CommandExecError -1 signal: killed"},
		{"argv", obj{"argv": []string{"printf", "%s|", "$HOME", "", "a b"}}, "$HOME||a b|", "", "ok"},
		{"argv relative to cwd", obj{"argv": []string{"./sub/../sub/x"}, "cwd": s.dir}, "", "",
			`CommandExecError "./sub/../sub/x": stat ` + sub + `/x: no such file or directory "./sub/../sub/x": stat ` + sub + `/x: no such file or directory`},
		{"argv not found", obj{"argv": []string{"no-such-program"}}, "", "",
			`CommandExecError "no-such-program": executable file not found in PATH "no-such-program": executable file not found in PATH`},
		{"cwd with request variable", obj{"command": "pwd", "cwd": "$D/sub", "envs": obj{"D": s.dir}}, sub + "\n", "", "ok"},
		{"cwd home", obj{"command": "pwd", "cwd": "~/sub"}, sub + "\n", "", "ok"},
		{"envs are literal", obj{"command": "echo $A", "envs": obj{"A": "$HOME '"}}, "$HOME '\n", "", "ok"},
		{"sandbox id", obj{"command": "echo $OPENSANDBOX_ID"}, "sb1\n", "", "ok"},
		{"empty stdin", obj{"command": "cat; echo end"}, "end\n", "", "ok"},
		{"left-over child", obj{"command": "sleep 1000 & echo $!; echo hi >&2"}, "", "hi\n", "ok"},
		{"own uid", obj{"command": "id -u", "uid": os.Getuid()}, strconv.Itoa(os.Getuid()) + "\n", "", "ok"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ev := s.run(tt.body)
			out := text(ev, "stdout")
			if tt.name == "left-over child" {
				pid, err := strconv.Atoi(strings.TrimSpace(out))
				if p, _ := os.FindProcess(pid); err != nil || p.Kill() != nil {
					t.Errorf("the child that was left behind is gone: %q", out)
				}
				out = ""
			}
			if out != tt.out || text(ev, "stderr") != tt.err {
				t.Errorf("got stdout %q stderr %q, want %q %q", out, text(ev, "stderr"), tt.out, tt.err)
			}
			if got := outcome(t, ev); got != tt.final {
				t.Errorf("got end %q, want %q", got, tt.final)
			}
		})
	}
}

func TestRunAsOtherUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Fatal("this test needs root")
	}
	s := start(t, setup{})
	ev := s.run(obj{"command": "id -u; id -g; id -G; echo $HOME", "uid": 65534})
	if got, want := text(ev, "stdout"), "65534\n65534\n65534\n"+s.dir+"\n"; got != want {
		t.Errorf("known user: got %q, want %q", got, want)
	}
	ev = s.run(obj{"command": "id -u; id -g", "uid": 54321})
	if got, want := text(ev, "stdout"), "54321\n0\n"; got != want {
		t.Errorf("unknown user: got %q, want %q", got, want)
	}
	ev = s.run(obj{"argv": []string{"id", "-g"}, "uid": 54321, "gid": 7})
	if got, want := text(ev, "stdout"), "7\n"; got != want {
		t.Errorf("group given: got %q, want %q", got, want)
	}
}

func TestRefusedCommands(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	for _, body := range []string{
		"", "{", "[]", `"x"`, "{}", `{"command":""}`, `{"command":"a","argv":["b"]}`, `{"argv":[]}`, `{"argv":[""]}`,
		`{"argv":["a\u0000b"]}`, `{"command":"a\u0000b"}`, `{"command":"true","timeout":-1}`, `{"command":"true","gid":5}`,
		`{"command":"true","timeout":9223372036854775807}`, `{"command":"true","uid":-1}`, `{"command":"true","on_disconnect":"perhaps"}`,
		`{"command":"true","cwd":"/no/such/dir"}`, `{"command":"true","cwd":"/etc/passwd"}`, `{"command":"true","cwd":"$UNDEFINED_X/a"}`,
		`{"command":"true","envs":{"A=B":"c"}}`, `{"command":"true","envs":{"A":"\u0000"}}`,
	} {
		s.do("POST", "/command", body).wantError(t, 400, codeBody)
	}
	a := s.do("POST", "/command", `{"command":"echo ok","unknown":1} trailing`)
	if got := text(parseEvents(t, a.body), "stdout"); got != "ok\n" {
		t.Errorf("unknown fields and trailing bytes: got %q", a.body)
	}
}

func TestEnvironmentFile(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	set := `d=$(dirname "$EXECD_ENVS"); mkdir -p "$d"; printf '%s\n' "FOO='a \$b \"c\" '" >> "$EXECD_ENVS"; printf '%s\n' 'BAR="it'"'"'s\nx"' >> "$EXECD_ENVS"`
	if got := outcome(t, s.run(obj{"command": set})); got != "ok" {
		t.Fatal(got)
	}
	ev := s.run(obj{"command": `printf '%s|%s' "$FOO" "$BAR"`})
	if got, want := text(ev, "stdout"), `a $b "c" |it's`+"\nx"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	ev = s.run(obj{"command": `printf %s "$FOO"`, "envs": obj{"FOO": "mine"}})
	if got := text(ev, "stdout"); got != "mine" {
		t.Errorf("request variables must win, got %q", got)
	}
}

func TestBackground(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	gate := filepath.Join(s.dir, "gate")
	ev := s.run(obj{"command": "echo one; echo err >&2; while [ ! -e " + gate + " ]; do sleep 0.02; done; echo two; exit 4", "background": true})
	if got := outcome(t, ev); got != "ok" || len(ev) != 2 {
		t.Fatalf("background stream: %+v", ev)
	}
	id := ev[0].Text
	st := s.status(id)
	if !st.Running || st.ExitCode != nil || st.FinishedAt != nil {
		t.Errorf("status while running: %+v", st)
	}
	var log string
	cursor := ""
	read := func() {
		a := s.do("GET", "/command/"+id+"/logs?cursor="+cursor, nil)
		if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Fatalf("logs: %d %s", a.StatusCode, a.body)
		}
		log += a.body
		cursor = a.Header.Get(tailCursor)
	}
	for log != "one\nerr\n" {
		read()
	}
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	st = s.ended(id)
	read()
	if log != "one\nerr\ntwo\n" || cursor != strconv.Itoa(len(log)) {
		t.Errorf("log %q, cursor %s", log, cursor)
	}
	if *st.ExitCode != 4 || st.Error != "exit status 4" || st.FinishedAt == nil {
		t.Errorf("status at the end: %+v", st)
	}
	a := s.do("GET", "/command/"+id+"/logs?cursor=99999", nil)
	if a.body != "" || a.Header.Get(tailCursor) != strconv.Itoa(len(log)) {
		t.Errorf("cursor beyond the end: %q %s", a.body, a.Header.Get(tailCursor))
	}
	s.do("GET", "/command/"+id+"/logs?cursor=-1", nil).wantError(t, 400, codeBody)
	s.do("GET", "/command/nope/logs", nil).wantError(t, 400, codeBody)
	s.do("GET", "/command/status/nope", nil).wantError(t, 404, codeBody)
	s.do("DELETE", "/command?id="+id, nil).wantEmpty(t)
	fg := s.run(obj{"argv": []string{"echo", "a b", "it's"}})
	s.do("GET", "/command/"+fg[0].Text+"/logs", nil).wantError(t, 400, codeBody)
	if st := s.status(fg[0].Text); st.Content != `echo 'a b' 'it'"'"'s'` || *st.ExitCode != 0 {
		t.Errorf("foreground status: %+v", st)
	}
}

func (s *sandbox) status(id string) (st command.Status) {
	s.t.Helper()
	a := s.do("GET", "/command/status/"+id, nil)
	if err := json.Unmarshal([]byte(a.body), &st); err != nil || a.StatusCode != 200 {
		s.t.Fatalf("status: %d %s", a.StatusCode, a.body)
	}
	return st
}

// ended polls until the command is over.
func (s *sandbox) ended(id string) (st command.Status) {
	s.t.Helper()
	eventually(s.t, "the command is over", func() bool { st = s.status(id); return !st.Running })
	return st
}

func TestBackgroundStartFailure(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	ev := s.run(obj{"argv": []string{"no-such-program"}, "background": true})
	if got := outcome(t, ev); !strings.HasPrefix(got, "CommandExecError ") {
		t.Errorf("got %q, want an error", got)
	}
	if st := s.status(ev[0].Text); st.Running || *st.ExitCode != 255 || st.Error == "" {
		t.Errorf("status: %+v", st)
	}
}

func TestLeftOversOfBackgroundSurvive(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	ev := s.run(obj{"command": "sleep 1000 & echo $!", "background": true})
	id := ev[0].Text
	if st := s.ended(id); *st.ExitCode != 0 {
		t.Fatalf("status: %+v", st)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(s.do("GET", "/command/"+id+"/logs", nil).body))
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := os.FindProcess(pid); p.Kill() != nil {
		t.Error("the process that was left behind is gone")
	}
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	s.do("DELETE", "/command", nil).wantError(t, 400, codeQuery)
	s.do("DELETE", "/command?id=nope", nil).wantError(t, 500, codeRuntime)
	for name, script := range map[string]string{
		"obedient": "sleep 1000 & sleep 1000", "stubborn child": "(trap '' TERM; sleep 1000) & sleep 1000",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := s.run(obj{"command": script, "background": true})[0].Text
			s.do("DELETE", "/command?id="+id, nil).wantEmpty(t)
			if st := s.ended(id); *st.ExitCode == 0 {
				t.Errorf("status: %+v", st)
			}
			s.do("DELETE", "/command?id="+id, nil).wantEmpty(t)
		})
	}
}

// TestOutputIsStreamed sees a line while the command still runs.
func TestOutputIsStreamed(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	gate := filepath.Join(s.dir, "gate")
	body := `{"command":"echo first; while [ ! -e ` + gate + ` ]; do sleep 0.02; done; echo second"}`
	res, err := http.Post(s.url+"/command", "", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	sc := bufio.NewScanner(res.Body)
	for sc.Scan() && !strings.Contains(sc.Text(), "first") {
	}
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = rest // The scanner may have read ahead; the end of the stream is what matters.
}

func TestClientLeaves(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	gate, done := filepath.Join(s.dir, "gate"), filepath.Join(s.dir, "done")
	ctx, cancel := context.WithCancel(t.Context())
	// More than a pipe holds is written after the client left: nobody may block or kill the command.
	script := "echo go; while [ ! -e " + gate + " ]; do sleep 0.01; done; head -c 3000000 /dev/zero; exec > /dev/null; touch " + done
	body, _ := json.Marshal(obj{"command": script, "on_disconnect": "keep"})
	req, err := http.NewRequestWithContext(ctx, "POST", s.url+"/command", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	res.Body.Close()
	s.write("gate", "", 0o600)
	eventually(t, "the command comes to its end", func() bool { _, err := os.Stat(done); return err == nil })
}

func TestBigOutputIsComplete(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	for name, script := range map[string]string{
		"lines":     "seq 1 200000",
		"one-line":  "head -c 6000000 /dev/zero | tr '\\0' x",
		"left-over": "sleep 2 & seq 1 50000",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ev := s.run(obj{"command": script + " | tee " + filepath.Join(s.dir, name)})
			want, err := os.ReadFile(filepath.Join(s.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if got := text(ev, "stdout"); got != string(want) {
				t.Errorf("got %d bytes, want %d equal ones", len(got), len(want))
			}
			if got := outcome(t, ev); got != "ok" {
				t.Errorf("end %q", got)
			}
		})
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	done := make(chan string, 50)
	for i := range cap(done) {
		go func() {
			res, err := http.Post(s.url+"/command", "", strings.NewReader(`{"command":"echo $((`+strconv.Itoa(i)+`*2)); exit 0"}`))
			if err != nil {
				done <- err.Error()
				return
			}
			defer res.Body.Close()
			b, _ := io.ReadAll(res.Body)
			if !strings.Contains(string(b), `"text":"`+strconv.Itoa(i*2)+`\n"`) || !strings.Contains(string(b), "execution_complete") {
				done <- string(b)
				return
			}
			done <- ""
		}()
	}
	for range cap(done) {
		if problem := <-done; problem != "" {
			t.Error(problem)
		}
	}
}

func FuzzCommandBody(f *testing.F) {
	f.Add(`{"command":"true"}`)
	f.Add(`{"argv":["a"],"uid":1,"gid":2,"envs":{"A":"b"},"timeout":5,"cwd":"~"}`)
	f.Add(`{"command":null,"argv":[null]}`)
	f.Fuzz(func(t *testing.T, body string) {
		var req command.Request
		if json.NewDecoder(strings.NewReader(body)).Decode(&req) != nil {
			return
		}
		if err := req.Check(); err == nil && (req.Command == "") == (len(req.Argv) == 0) {
			t.Errorf("accepted %q", body)
		}
	})
}
