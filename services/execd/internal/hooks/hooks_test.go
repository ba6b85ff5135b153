package hooks

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"opensandbox/libs/secrettest"
	"opensandbox/services/execd/internal/reap"
	"opensandbox/services/execd/internal/reap/reaptest"
)

// reaper is the only one of the test process: it collects every child.
var reaper *reap.Reaper

func TestMain(m *testing.M) {
	reaper = reap.New()
	reaptest.Main(m, reaper)
}

func TestLoad(t *testing.T) {
	t.Parallel()
	set, err := Load(`{"preStart":{"command":["a","b c"],"timeoutSeconds":10800},
		"periodic":[{"name":"one","schedule":"@hourly","command":["x"]},{"name":"two","schedule":"*/5 * * * *","command":["y"],"timeoutSeconds":300}]}`, File{})
	if err != nil || set.PreStart == nil || set.PreStart.Timeout != 3*time.Hour || strings.Join(set.PreStart.Command, "|") != "a|b c" || len(set.Periodic) != 2 ||
		set.Periodic[0].Timeout != time.Minute || set.Periodic[1].Timeout != 5*time.Minute || set.Periodic[1].Name != "two" {
		t.Errorf("got %+v, %v", set, err)
	}
	for _, text := range []string{"", " \n", "{}", `{"preStart":null,"periodic":null}`} {
		if set, err := Load(text, File{}); err != nil || set.PreStart != nil || len(set.Periodic) != 0 {
			t.Errorf("%q: got %+v, %v", text, set, err)
		}
	}
	secret := secrettest.New("an argument of a hook")
	for text, want := range map[string]string{
		`{`:               "unexpected EOF",
		`[]`:              "wrong type",
		`{} x`:            "text after",
		`{"postStop":{}}`: "unknown field",
		`{"preStart":{"command":["a"],"shell":true}}`: "unknown field",
		`{"preStart":{"command":"` + secret + `"}}`:   "preStart.command has the wrong type",
		`{"preStart":{}}`:                                                                      "the command is missing",
		`{"preStart":{"command":[" "]}}`:                                                       "the command is missing",
		`{"preStart":{"command":["a","\u0000` + secret + `"]}}`:                                "NUL",
		`{"preStart":{"command":["a"],"name":"x"}}`:                                            "neither name nor schedule",
		`{"preStart":{"command":["a"],"timeoutSeconds":0}}`:                                    "from 1 to 10800",
		`{"preStart":{"command":["a"],"timeoutSeconds":10801}}`:                                "from 1 to 10800",
		`{"periodic":[{"name":"a","schedule":"@daily","command":["x"],"timeoutSeconds":301}]}`: "from 1 to 300",
		`{"periodic":[{"schedule":"@daily","command":["x"]}]}`:                                 "the name is missing",
		`{"periodic":[{"name":"a","command":["x"]}]}`:                                          "schedule: want minute",
		`{"periodic":[{"name":"a","schedule":"@daily","command":["x"]},{"name":"a ","schedule":"@daily","command":["x"]}]}`: "same name",
	} {
		_, err := Load(text, File{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), Variable) {
			t.Errorf("%s: got %v, want %q", text, err, want)
			continue
		}
		secrettest.Absent(t, "the error", err.Error())
	}
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	at := func(text string) time.Time {
		x, err := time.Parse("2006-01-02 15:04:05.999", text)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, tt := range []struct{ schedule, now, next string }{
		{"* * * * *", "2026-11-26 12:30:00", "2026-11-26 12:31:00"},
		{"* * * * *", "2026-11-26 12:30:59.999", "2026-11-26 12:31:00"},
		{"*/15 * * * *", "2026-11-26 12:31:00", "2026-11-26 12:45:00"},
		{"5/20 * * * *", "2026-11-26 12:45:00", "2026-11-26 13:05:00"},
		{"0 9-17/4 * * *", "2026-11-26 12:30:00", "2026-11-26 13:00:00"},
		{"30 6 * * mon-fri", "2026-11-27 07:00:00", "2026-11-30 06:30:00"},
		{"0 0 * * 7", "2026-11-26 12:30:00", "2026-11-29 00:00:00"},
		{"0 0 1,15 * 3", "2026-11-26 12:30:00", "2026-12-01 00:00:00"}, // Either is enough; the 2nd is the Wednesday.
		{"0 0 */2 * 3", "2026-11-26 12:30:00", "2026-12-09 00:00:00"},  // A star counts as no restriction: both must hold.
		{"0 0 29 feb *", "2026-11-26 12:30:00", "2028-02-29 00:00:00"},
		{"0 0 29 2 *", "2096-03-01 00:00:00", "2104-02-29 00:00:00"},
		{"@hourly", "2026-12-31 23:30:00", "2027-01-01 00:00:00"},
		{"@Yearly", "2026-11-26 12:30:00", "2027-01-01 00:00:00"},
		{"@every 90s", "2026-11-26 12:30:00", "2026-11-26 12:31:30"},
		{"@every 1h30m", "2026-11-26 12:30:00", "2026-11-26 14:00:00"},
	} {
		s, err := ParseSchedule(tt.schedule)
		if err != nil {
			t.Errorf("%s: %v", tt.schedule, err)
			continue
		}
		if got := s.Next(at(tt.now)); !got.Equal(at(tt.next)) {
			t.Errorf("%s after %s: got %s, want %s", tt.schedule, tt.now, got, tt.next)
		}
	}
	for _, bad := range []string{
		"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "-1 * * * *", "+1 * * * *", "1-0 * * * *",
		"*/0 * * * *", "*/x * * * *", "1,,2 * * * *", "a * * * *", "0 0 30 2 *", "@reboot", "@every", "@every 0s", "@every 1.5s", "@every 500ms", "@every x", "jan * * * *",
	} {
		if _, err := ParseSchedule(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// TestScheduleOverClockChange: the hour that is left out in spring and the one that comes twice in autumn do not stop a schedule.
func TestScheduleOverClockChange(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSchedule("30 2 * * *")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Next(time.Date(2026, 3, 28, 12, 0, 0, 0, zone)); got.Day() != 30 && got.Day() != 29 {
		t.Errorf("spring: got %s", got)
	}
	first := s.Next(time.Date(2026, 10, 24, 12, 0, 0, 0, zone))
	if first.Day() != 25 || first.Hour() != 2 {
		t.Errorf("autumn: got %s", first)
	}
	if second := s.Next(first); !second.After(first) {
		t.Errorf("autumn: %s after %s", second, first)
	}
}

func FuzzSchedule(f *testing.F) {
	for _, s := range []string{"*/5 1-3 * jan,feb 7", "@every 5m", "@daily", "0 0 29 2 *", "59 23 31 12 *"} {
		f.Add(s, int64(1_700_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, at int64) {
		s, err := ParseSchedule(text)
		if err != nil {
			return
		}
		now := time.Unix(at%4_000_000_000, 0).UTC()
		if next := s.Next(now); !next.IsZero() && !next.After(now) {
			t.Errorf("%q after %s: got %s", text, now, next)
		}
	})
}

func runner(t *testing.T, log io.Writer) (*Runner, string) {
	t.Helper()
	return NewRunner(reaper, os.Environ(), slog.New(slog.NewTextHandler(log, nil))), t.TempDir()
}

func TestOnce(t *testing.T) {
	t.Parallel()
	r, _ := runner(t, io.Discard)
	ended, stop := context.WithCancel(t.Context())
	stop()
	for _, tt := range []struct {
		ctx     context.Context
		command []string
		timeout time.Duration
		want    string
	}{
		{t.Context(), []string{"true"}, time.Minute, ""},
		{t.Context(), []string{"sh", "-c", "exit 7"}, time.Minute, "exit status 7"},
		{t.Context(), []string{"no-such-program"}, time.Minute, "not found"},
		{ended, []string{"sleep", "1000"}, time.Minute, "context canceled"},
	} {
		err := r.Once(tt.ctx, Hook{Name: "x", Command: tt.command, Timeout: tt.timeout})
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q: got %v, want %q", tt.command, err, tt.want)
		}
	}
}

// TestTimeOutEndsTheGroup: also what ignores SIGTERM is gone, and what the command started.
func TestTimeOutEndsTheGroup(t *testing.T) {
	t.Parallel()
	r, dir := runner(t, io.Discard)
	pid := filepath.Join(dir, "pid")
	command := []string{"sh", "-c", "trap '' TERM; sleep 1000 & echo $! >" + pid + "; wait"}
	for timeout := 100 * time.Millisecond; ; timeout *= 2 {
		err := r.Once(t.Context(), Hook{Name: "x", Command: command, Timeout: timeout})
		if want := "not done within " + timeout.String(); err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("got %v, want %q", err, want)
		}
		text, _ := os.ReadFile(pid)
		if len(text) == 0 {
			continue // The time-out came before the shell got there.
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		for !errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			time.Sleep(5 * time.Millisecond)
		}
		return
	}
}

// TestPeriodic: the hook comes again, also after a failure, and never twice at a time.
func TestPeriodic(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	r, dir := runner(t, &log)
	marks := filepath.Join(dir, "marks")
	every, err := ParseSchedule("@every 1s")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	script := "mkdir " + dir + "/busy || echo overlap >>" + marks + "; sleep 1.2; rmdir " + dir + "/busy; echo ran >>" + marks + "; exit 3"
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Periodic(ctx, []Periodic{{Hook{Name: "often", Command: []string{"sh", "-c", script}, Timeout: time.Minute}, every}})
	}()
	for data, _ := os.ReadFile(marks); strings.Count(string(data), "ran") < 2; data, _ = os.ReadFile(marks) {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	<-done
	if data, err := os.ReadFile(marks); err != nil || strings.Contains(string(data), "overlap") {
		t.Errorf("got %q, %v", data, err)
	}
	if !strings.Contains(log.String(), "periodic hook failed") || !strings.Contains(log.String(), "exit status 3") {
		t.Errorf("log: %s", log.String())
	}
}
