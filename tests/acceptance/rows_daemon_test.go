//go:build e2e

package acceptance

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"opensandbox/libs/secrettest"
)

// daemonRows are the rows of the acceptance list that are about the daemon and hold at each place. Rows 24, 27 and 29 have tests of their own.
var daemonRows = []struct {
	name string
	try  func(d daemon, p place)
}{
	{"Row20PingNeedsNoToken", row20}, {"Row21Streams", row21}, {"Row22Commands", row22}, {"Row23BackgroundCommands", row23},
	{"Row25Uploads", row25}, {"Row26Downloads", row26}, {"Row28Isolation", row28}, {"Row30SetEnv", row30}, {"Row31Metrics", row31},
	{"Row32EmptyAnswersHaveALength", row32},
}

func TestRowsOfTheDaemon(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, d daemon, p place) {
		for _, row := range daemonRows {
			t.Run(row.name, func(t *testing.T) {
				d.t = t
				row.try(d, p)
			})
		}
	})
}

// everywhere tries something at each place, directly and through the server, all at once. d.t and p.dir belong to one try.
func everywhere(t *testing.T, try func(t *testing.T, d daemon, p place)) {
	t.Helper()
	s, all := places(t)
	for _, p := range all {
		direct, header := s.endpoint(p.id, 44772)
		through, proxied := s.through(p.id, 44772)
		for way, d := range map[string]daemon{"directly": {url: direct, header: header}, "through the server": {url: through, header: proxied}} {
			t.Run(p.name+" "+way, func(t *testing.T) {
				t.Parallel()
				d.server, d.t = s, t
				own := p
				own.dir += "/" + strings.ReplaceAll(way, " ", "-")
				try(t, d, own)
			})
		}
	}
}

// events takes a stream apart: bare objects of JSON, each followed by two newlines, and nothing else.
func (d daemon) events(a answer) []m {
	d.t.Helper()
	if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream") {
		d.t.Fatalf("a stream: %v %v", a, a.header)
	}
	text, ended := strings.CutSuffix(string(a.body), "\n\n")
	if !ended {
		d.t.Fatalf("the stream ends with %q", tail(text, 20))
	}
	var events []m
	for frame := range strings.SplitSeq(text, "\n\n") {
		var e m
		if err := json.Unmarshal([]byte(frame), &e); err != nil || frame[0] != '{' {
			d.t.Fatalf("frame %q: %v", frame, err)
		}
		events = append(events, e)
	}
	return events
}

// command runs a command to its end.
func (d daemon) command(body m) []m {
	d.t.Helper()
	return d.events(d.call("POST", "/command", body))
}

// ending is the last event of a stream in short: its type, and for an error the exit code as well.
func ending(events []m) string {
	last := events[len(events)-1]
	if e, ok := last["error"].(m); ok {
		return fmt.Sprintf("%s %v", last["type"], e["evalue"])
	}
	return last["type"].(string)
}

func row20(d daemon, _ place) {
	for range 2 {
		if a, err := request("GET", d.url+"/ping", nil); err != nil || a.status != 200 || a.header.Get("Content-Length") != "0" {
			d.t.Errorf("ping: %v %v", a, err)
		}
	}
	a, err := request("POST", d.url+"/command", m{"argv": []string{onlyProgram}})
	if err != nil {
		d.t.Fatal(err)
	}
	wantEnvelope(d.t, "a command without the token", a, 401)
}

func row21(d daemon, p place) {
	body, out, missing := m{"command": "echo out; echo err >&2; exit 3"}, "out\n", "err\n"
	if !p.shell {
		body, out, missing = m{"argv": []string{onlyProgram, "tell", "FROM", "NOWHERE"}, "cwd": "/"}, "", "NOWHERE is missing\n"
		out = p.tells("/") + "FROM=create\n"
	}
	a := d.call("POST", "/command", body)
	events := d.events(a)
	if a.header.Get("Cache-Control") != "no-cache" || events[0]["type"] != "init" || output(events, "stdout") != out || output(events, "stderr") != missing {
		d.t.Errorf("%v: %v", a.header, events)
	}
	final := 0
	for _, e := range events {
		if e["type"] == "error" || e["type"] == "execution_complete" {
			final++
		}
		if _, ok := e["timestamp"].(float64); !ok {
			d.t.Errorf("event without a time: %v", e)
		}
	}
	last := events[len(events)-1]
	if e, _ := last["error"].(m); final != 1 || ending(events) != "error 3" || e["ename"] != "CommandExecError" || !slices.Equal(e["traceback"].([]any), []any{"exit status 3"}) {
		d.t.Errorf("%d final events, the last %v", final, last)
	}
	body = m{"command": "true"}
	if !p.shell {
		body = m{"argv": []string{onlyProgram, "tell"}}
	}
	if got := ending(d.command(body)); got != "execution_complete" {
		d.t.Errorf("success ends with %s", got)
	}
}

// tells is what the program without a shell says of who runs it and where.
func (p place) tells(dir string) string { return fmt.Sprintf("%d 0 %s\n", p.user, dir) }

func row22(d daemon, p place) {
	type table map[string]struct {
		body m
		want string
	}
	group := 0
	if p.names() == "nobody" {
		group = p.user // the one of its account
	}
	cases := table{
		"shell":          {m{"command": "echo $FROM-$IN", "envs": m{"IN": "request"}}, "create-request\n"},
		"argv":           {m{"argv": []string{"printf", "%s", "$HOME"}}, "$HOME"},
		"empty argument": {m{"argv": []string{"printf", "%s|", "", "a b"}}, "|a b|"},
		"cwd":            {m{"command": "pwd", "cwd": "/tmp"}, "/tmp\n"},
		"variable":       {m{"command": "pwd", "cwd": "/$PART", "envs": m{"PART": "tmp"}}, "/tmp\n"},
		"own identity":   {m{"command": "id -u; id -g", "uid": p.user, "gid": group}, fmt.Sprintf("%d\n%d\n", p.user, group)},
		"carriage":       {m{"command": `printf 'a\r\nb'`}, "a\r\nb"},
		"empty lines":    {m{"command": `printf 'a\n\nb'`}, "a\n\nb"},
	}
	another := m{"command": "id -u; id -g", "uid": 4321, "gid": 5432}
	became, slow := "4321\n5432\n", m{"command": "sleep 300", "timeout": 200}
	if !p.shell {
		tell := []string{onlyProgram, "tell", "FROM"}
		cases = table{
			"argv":         {m{"argv": tell, "cwd": "/"}, p.tells("/") + "FROM=create\n"},
			"request":      {m{"argv": tell, "cwd": "/", "envs": m{"FROM": "request"}}, p.tells("/") + "FROM=request\n"},
			"cwd":          {m{"argv": tell[:2], "cwd": "/dev/$PART", "envs": m{"PART": "shm"}}, p.tells("/dev/shm")},
			"own identity": {m{"argv": tell[:2], "cwd": "/", "uid": p.user, "gid": 0}, p.tells("/")},
		}
		another = m{"argv": tell[:2], "cwd": "/", "uid": 4321, "gid": 5432}
		became, slow = "4321 5432 /\n", m{"argv": []string{onlyProgram, "hold"}, "timeout": 200}
		if events := d.command(m{"command": "true"}); !strings.Contains(fmt.Sprint(events[len(events)-1]), "no shell") {
			d.t.Errorf("a command for a shell: %v", events)
		}
	}
	for name, c := range cases {
		if events := d.command(c.body); output(events, "stdout") != c.want || ending(events) != "execution_complete" {
			d.t.Errorf("%s: %v, want %q", name, events, c.want)
		}
	}
	events := d.command(another)
	if p.user == 0 && output(events, "stdout") != became || p.user != 0 && (output(events, "stdout") != "" || events[len(events)-1]["type"] != "error") {
		d.t.Errorf("another identity: %v", events)
	}
	if got := ending(d.command(slow)); got != "error -1" {
		d.t.Errorf("a time-out ends with %s", got)
	}
	for name, body := range map[string]m{
		"both": {"command": "a", "argv": []string{"a"}}, "neither": {}, "no directory": {"argv": []string{onlyProgram}, "cwd": "/nowhere"},
		"gid alone": {"argv": []string{onlyProgram}, "gid": 1}, "negative": {"argv": []string{onlyProgram}, "timeout": -1},
	} {
		wantEnvelope(d.t, name, d.call("POST", "/command", body), 400)
	}
}

// leave starts a command in the background, breaks the connection at the event that ends the stream, as the published Python client does, and
// returns its id.
func (d daemon) leave(body m) string {
	d.t.Helper()
	ctx, leave := context.WithCancel(d.t.Context())
	defer leave()
	res := follow(ctx, d.t, "POST", d.url+"/command", d.header, body)
	defer res.Body.Close()
	var id string
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		var e struct{ Type, Text string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // an empty line
		}
		switch e.Type {
		case "init":
			id = e.Text
		case "execution_complete":
			return id
		}
	}
	d.t.Fatal("the stream ended without its event")
	return ""
}

func row23(d daemon, p place) {
	body, prints, code := m{"command": "echo one; sleep 0.3; echo two; exec sleep 3600"}, "one\ntwo\n", -1.0
	if !p.shell {
		body, prints, code = m{"argv": []string{onlyProgram, "hold"}}, "static-app holds\n", 0 // which it ends with when it is asked to
	}
	body["background"] = true
	id := d.leave(body)
	logs := func(query string) answer { return d.call("GET", "/command/"+id+"/logs"+query, nil) }
	d.until("the command in the background has printed all", func() bool { return string(logs("").body) == prints })
	a := logs("?cursor=4")
	if string(a.body) != prints[4:] || a.header.Get("EXECD-COMMANDS-TAIL-CURSOR") != strconv.Itoa(len(prints)) || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		d.t.Errorf("from byte 4: %v %v", a, a.header)
	}
	if a := logs("?cursor=1000"); len(a.body) != 0 || a.header.Get("EXECD-COMMANDS-TAIL-CURSOR") != strconv.Itoa(len(prints)) {
		d.t.Errorf("beyond the end: %v %v", a, a.header)
	}
	status := func() m { return d.call("GET", "/command/status/"+id, nil).json(d.t) }
	if st := status(); st["running"] != true || st["exit_code"] != nil || st["id"] != id || st["started_at"] == nil || st["finished_at"] != nil {
		d.t.Errorf("status while running: %v", st)
	}
	for range 2 { // the client repeats it
		if a := d.call("DELETE", "/command?id="+id, nil); a.status != 200 || a.header.Get("Content-Length") != "0" {
			d.t.Errorf("interrupt: %v", a)
		}
	}
	if st := status(); st["running"] != false || st["exit_code"] != code || st["finished_at"] == nil {
		d.t.Errorf("status after the interrupt: %v", st)
	}
	wantEnvelope(d.t, "status of nothing", d.call("GET", "/command/status/none", nil), 404)
	wantEnvelope(d.t, "logs of nothing", d.call("GET", "/command/none/logs", nil), 400)
}

// From the first moment on a ping is answered with success or with what clients ask again after, never with 401 or 403, and once it succeeds commands work.
func TestRow20NoPingIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	for _, query := range []string{"", "?use_server_proxy=true"} {
		id := s.do("POST", "/v1/sandboxes", spec(nil), "Prefer", "respond-async").json(t)["id"].(string)
		var endpoint answer
		s.eventually("the daemon has an endpoint", func() bool {
			endpoint = s.do("GET", "/v1/sandboxes/"+id+"/endpoints/44772"+query, nil)
			return endpoint.status == 200
		})
		d := daemon{server: s, t: t, url: "http://" + endpoint.json(t)["endpoint"].(string)}
		for k, v := range endpoint.json(t)["headers"].(m) {
			d.header = append(d.header, k, v.(string))
			secrettest.Note("the token of a daemon", v.(string))
		}
		s.eventually("a ping succeeds", func() bool {
			a, err := request("GET", d.url+"/ping", nil, d.header...)
			if err == nil && (a.status == 401 || a.status == 403) {
				t.Fatalf("a ping at the start: %v", a)
			}
			return err == nil && a.status == 200
		})
		if got := ending(d.command(m{"command": "true"})); got != "execution_complete" {
			t.Errorf("a command after the first ping ends with %s", got)
		}
	}
}
