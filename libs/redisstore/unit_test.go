package redisstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

func TestNewClient(t *testing.T) {
	t.Parallel()
	addr := []string{"127.0.0.1:1"}
	for _, tc := range []struct {
		name string
		cfg  ClientConfig
		ok   bool
	}{
		{"single", ClientConfig{Mode: ModeSingle, Addrs: addr, DB: 3, TLS: true}, true},
		{"sentinel", ClientConfig{Mode: ModeSentinel, Addrs: addr, MasterName: "m"}, true},
		{"cluster", ClientConfig{Mode: ModeCluster, Addrs: addr}, true},
		{"no address", ClientConfig{Mode: ModeSingle}, false},
		{"no name of the master", ClientConfig{Mode: ModeSentinel, Addrs: addr}, false},
		{"a database of a cluster", ClientConfig{Mode: ModeCluster, Addrs: addr, DB: 1}, false},
		{"no mode", ClientConfig{Addrs: addr}, false},
	} {
		c, err := NewClient(tc.cfg)
		if (err == nil) != tc.ok || (err != nil && !fault.Is(err, fault.Invalid)) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if c != nil {
			if err := c.Close(); err != nil {
				t.Errorf("%s: close: %v", tc.name, err)
			}
		}
	}
	if got := clientName("opensandbox api\n1 é"); got != "opensandbox-api-1--" {
		t.Errorf("client name %q", got)
	}
}

func TestCheckVersion(t *testing.T) {
	t.Parallel()
	for v, ok := range map[string]bool{
		"7.0.15": true, "6.2.0": true, "6.2": true, "10.0.1": true, "": true, "unstable": true, "6.0.16": false, "5.0.7": false, "2.8.24": false, "6.1.9": false,
	} {
		err := checkVersion(v)
		if (err == nil) != ok {
			t.Errorf("%q: %v", v, err)
		}
		if err != nil && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), v) || !strings.Contains(err.Error(), "6.2")) {
			t.Errorf("%q: %v does not name both versions", v, err)
		}
	}
}

// talk is a server that gives the same answer to each command with a name, and OK to all others.
func talk(t *testing.T, answers map[string]string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close() //nolint:errcheck // the client is gone
				in := bufio.NewReader(c)
				for name, err := command(in); err == nil; name, err = command(in) {
					answer, ok := answers[name]
					if !ok {
						answer = "+OK\r\n"
					}
					if _, err := c.Write([]byte(answer)); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// command reads one command and returns its name.
func command(in *bufio.Reader) (string, error) {
	var n int
	if _, err := fmt.Fscanf(in, "*%d\r\n", &n); err != nil {
		return "", err
	}
	name := ""
	for i := range n {
		var size int
		if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
			return "", err
		}
		word := make([]byte, size+2)
		for read := 0; read < len(word); {
			k, err := in.Read(word[read:])
			if err != nil {
				return "", err
			}
			read += k
		}
		if i == 0 {
			name = strings.ToLower(string(word[:size]))
		}
	}
	return name, nil
}

func TestOpenRefusesServers(t *testing.T) {
	t.Parallel()
	const hello = "-ERR unknown command 'HELLO'\r\n" // as a server before version 6
	bulk := func(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
	for _, tc := range []struct {
		name    string
		answers map[string]string
		kind    fault.Kind
		text    string
	}{
		{"too old", map[string]string{"info": bulk("# Server\r\nredis_version:5.0.7\r\n")}, fault.Invalid, "5.0.7 is too old"},
		{"wrong password", map[string]string{"info": "-WRONGPASS invalid username-password pair\r\n"}, fault.Unauthenticated, "refuses the user"},
		{"no password", map[string]string{"info": "-NOAUTH Authentication required.\r\n"}, fault.Unauthenticated, "refuses the user"},
		{"no rights", map[string]string{"info": "-NOPERM this user has no permissions to run the 'info' command\r\n"}, fault.Forbidden, "may not do"},
		{"never ready", map[string]string{"info": "-LOADING Redis is loading the dataset in memory\r\n"}, fault.Unavailable, "cannot be reached"},
		{"no scripts", map[string]string{
			"info": bulk("redis_version:7.0.15\r\n"), "config": "-NOPERM no\r\n", "script": "-ERR unknown command 'script'\r\n",
		}, fault.Internal, "not expected"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.answers["hello"] = hello
			c, err := NewClient(ClientConfig{Mode: ModeSingle, Addrs: []string{talk(t, tc.answers)}})
			if err != nil {
				t.Fatal(err)
			}
			limit := time.Minute
			if tc.kind == fault.Unavailable { // asked again until the end
				limit = 500 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			_, err = Open(ctx, Config{Client: c, Installation: "i"})
			if !fault.Is(err, tc.kind) || !strings.Contains(fault.TextOf(err), tc.text) {
				t.Errorf("%v (%s); want %s and %q", err, fault.KindOf(err), tc.kind, tc.text)
			}
		})
	}
}

func TestFailed(t *testing.T) {
	t.Parallel()
	s := &Store{}
	for _, tc := range []struct {
		err  error
		kind fault.Kind
	}{
		{errors.New("dial tcp: connection refused"), fault.Unavailable},
		{errNoAnswer, fault.Unavailable},
		{redisError("READONLY You can't write against a read only replica."), fault.Unavailable},
		{redisError("OOM command not allowed when used memory > 'maxmemory'."), fault.Unavailable},
		{redisError("ERR max number of clients reached"), fault.Unavailable},
		{redisError("ERR user_script:1: wrong"), fault.Internal},
		{redisError("WRONGTYPE Operation against a key holding the wrong kind of value"), fault.Internal},
		{sandbox.ErrStale("x"), fault.Conflict},
	} {
		got := s.failed("op", tc.err)
		if !fault.Is(got, tc.kind) || (tc.kind == fault.Unavailable) != (fault.RetryAfterOf(got) > 0) {
			t.Errorf("%v: %v (%s, retry after %s)", tc.err, got, fault.KindOf(got), fault.RetryAfterOf(got))
		}
	}
	if err := s.failed("op", fmt.Errorf("x: %w", context.Canceled)); !errors.Is(err, context.Canceled) || fault.Is(err, fault.Unavailable) {
		t.Errorf("of a caller that gave up: %v", err)
	}
	if err := s.failed("op", nil); err != nil {
		t.Errorf("of nothing: %v", err)
	}
}

// redisError is an error of the server.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

func TestRecordsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	r := sandbox.NewRecord(sandbox.New{ID: "a", Tenant: "t", Spec: sandbox.Spec{Image: "i", Timeout: time.Hour}, Metadata: map[string]string{"k": "v"}}, now, sandbox.Origin{Trace: "trace", Request: "request"})
	r.Placement = sandbox.Placement{Node: "n", Epoch: 2, Ports: map[int]int{8080: 40000, 1: 40001}}
	rec, err := encoded(&r)
	if err != nil {
		t.Fatal(err)
	}
	values := []any{rec[0], rec[1], rec[2], "1", rec[5], rec[6], micros(now)}
	got, err := decode("a", values)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&r, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for what, broken := range map[string]func(v []any){
		"body": func(v []any) { v[0] = "{" }, "deadline": func(v []any) { v[1] = "x" }, "version": func(v []any) { v[3] = "x" },
		"ports": func(v []any) { v[4] = "1=" }, "schema": func(v []any) { v[5] = "2" }, "creation": func(v []any) { v[6] = "x" },
	} {
		v := append([]any(nil), values...)
		broken(v)
		if _, err := decode("a", v); !fault.Is(err, fault.Internal) || fault.SubjectOf(err) != "a" {
			t.Errorf("broken %s: %v", what, err)
		}
	}
	if _, err := decode("a", make([]any, len(fields))); !fault.Is(err, fault.NotFound) {
		t.Errorf("a record that is not there: %v", err)
	}
}

func TestScoresAreNeverEarly(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{
		time.Unix(0, 1), time.Unix(1, 999), time.Date(2026, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(2300, 1, 1, 0, 0, 0, 1000, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
	} {
		var f float64
		if _, err := fmt.Sscan(score(at), &f); err != nil {
			t.Fatal(err)
		}
		if f < math.Ceil(float64(at.UnixNano())/1000) && at.Year() < 2200 {
			t.Errorf("%s has the score %s", at, score(at))
		}
		if int64(f) < at.UnixMicro() {
			t.Errorf("%s has the score %s, which is before it", at, score(at))
		}
	}
	if score(time.Time{}) != "" {
		t.Error("never has a score")
	}
}

func TestKeysAreApart(t *testing.T) {
	t.Parallel()
	k := newKeys("i")
	seen := map[string]string{}
	for what, key := range map[string]string{
		"list of a": k.list("a", sandbox.StateRunning), "list of a:Running": k.list("a:Running", sandbox.StateRunning),
		"label a=b c": k.label("t", sandbox.StateRunning, "a", "b=c"), "label a=b =c": k.label("t", sandbox.StateRunning, "a=b", "c"),
		"key b of a": k.idempotent("a", "b"), "key b of a:": k.idempotent("a:", "b"), "key :b of a": k.idempotent("a", ":b"),
	} {
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s have one key, %s", what, other, key)
		}
		seen[key] = what
		if !strings.HasPrefix(key, "osb:i:{c0}:") {
			t.Errorf("%s lies outside its part: %s", what, key)
		}
	}
}

func FuzzPortList(f *testing.F) {
	for _, s := range []string{"", "8080=40000", "1=2,3=4", "=", ",", "1=2=3", "-1=5", "99999999999999999999=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ports, ok := parsePortList(s)
		if !ok {
			return
		}
		again, ok := parsePortList(portList(ports))
		if !ok || !cmp.Equal(ports, again) {
			t.Errorf("%q became %v and then %v", s, ports, again)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"id":"a"}`, "1", "1", "1", "1=2", schema, "5")
	f.Add(`null`, "", "", "0", "", schema, "")
	f.Fuzz(func(t *testing.T, body, deadline, accepted, version, ports, made, created string) {
		r, err := decode("a", []any{body, deadline, accepted, version, ports, made, created})
		if (r == nil) == (err == nil) {
			t.Errorf("%v, %v", r, err)
		}
	})
}
