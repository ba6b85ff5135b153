package renewintent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandboxproxy/renewintent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder keeps what is published. It fails while err is set and waits for gate if there is one.
type recorder struct {
	gate chan struct{}

	mu     sync.Mutex
	err    error
	got    []renewintent.Intent
	inside int
	most   int
}

func (r *recorder) Publish(ctx context.Context, payload []byte) error {
	var i renewintent.Intent
	if err := json.Unmarshal(payload, &i); err != nil {
		return err
	}
	r.enter(1)
	defer r.enter(-1)
	if r.gate != nil {
		select {
		case <-r.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, i)
	return r.err
}

func (r *recorder) enter(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside += n
	r.most = max(r.most, r.inside)
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *recorder) published() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, i := range r.got {
		out = append(out, fmt.Sprintf("%s:%d%s", i.SandboxID, i.Port, i.RequestURI))
	}
	return out
}

// start runs p in a bubble and returns what ends it.
func start(t *testing.T, p *renewintent.Producer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	}
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		p := renewintent.New(r, time.Minute, nil, slog.New(slog.DiscardHandler))
		defer start(t, p)()
		steps := []struct {
			wait   time.Duration
			id     sandbox.ID
			uri    string
			header string
		}{
			{0, "a", "/skipped", "skip"},
			{0, "a", "/1", ""},
			{0, "a", "/too-soon", ""},
			{0, "b", "/2", "Skip"},
			{59 * time.Second, "a", "/too-soon", ""},
			{time.Second, "a", "/3", "no"},
			{0, "b", "/skipped", "skip"},
			{0, "b", "/4", "skip "},
		}
		for _, s := range steps {
			time.Sleep(s.wait)
			p.Used(s.id, 80, s.uri, s.header)
			synctest.Wait()
		}
		if diff := cmp.Diff([]string{"a:80/1", "b:80/2", "a:80/3", "b:80/4"}, r.published()); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
	})
}

func TestNoThrottle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		p := renewintent.New(r, 0, nil, slog.New(slog.DiscardHandler))
		defer start(t, p)()
		for range 3 {
			p.Used("a", 1, "", "")
		}
		synctest.Wait()
		if diff := cmp.Diff([]string{"a:1", "a:1", "a:1"}, r.published()); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
	})
}

// A publisher that hangs holds up nobody, and four hang at most.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := &recorder{gate: make(chan struct{})}
		p := renewintent.New(r, time.Hour, nil, slog.New(slog.NewTextHandler(&log, nil)))
		stop := start(t, p)
		for i := range 4 {
			p.Used(sandbox.ID(fmt.Sprint("w", i)), 1, "", "")
		}
		synctest.Wait()
		for i := range 8192 + 10 {
			p.Used(sandbox.ID(fmt.Sprint("q", i)), 1, "", "")
		}
		close(r.gate)
		synctest.Wait()
		if n := len(r.published()); n != 8192+4 {
			t.Errorf("%d published, want the queue of 8192 and the 4 in progress", n)
		}
		if r.most != 4 {
			t.Errorf("%d at once, want 4", r.most)
		}
		// One that was dropped has not used up its turn.
		p.Used("q8195", 1, "", "")
		synctest.Wait()
		if n := len(r.published()); n != 8192+5 {
			t.Errorf("%d published, want one more", n)
		}
		stop()
		if n := strings.Count(log.String(), "is full"); n != 1 {
			t.Errorf("said %d times that the queue is full, want once", n)
		}
	})
}

func TestFailuresAreLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := &recorder{}
		p := renewintent.New(r, time.Minute, nil, slog.New(slog.NewTextHandler(&log, nil)))
		stop := start(t, p)
		r.fail(errors.New("refused"))
		for range 3 {
			p.Used("a", 1, "", "")
			p.Used("b", 1, "", "") // the turn is used up although it failed
			p.Used("b", 1, "", "")
			synctest.Wait()
			time.Sleep(time.Minute)
		}
		r.fail(nil)
		p.Used("a", 1, "", "")
		synctest.Wait()
		stop()
		if n := len(r.published()); n != 7 {
			t.Errorf("%d tried, want 7", n)
		}
		if strings.Count(log.String(), "cannot be published") != 1 || strings.Count(log.String(), "published again") != 1 {
			t.Errorf("want one line at the beginning and one at the end:\n%s", &log)
		}
	})
}

func TestStopDoesNotWaitForAPublisherThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := renewintent.New(&recorder{gate: make(chan struct{})}, 0, nil, slog.New(slog.DiscardHandler))
		stop := start(t, p)
		for range 100 {
			p.Used("a", 1, "", "")
		}
		synctest.Wait()
		stop()
	})
}

func TestPayload(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 4, 5, 6, 7, 89, time.UTC)
	for want, i := range map[string]renewintent.Intent{
		`{"sandbox_id":"sb","observed_at":"2026-03-04T05:06:07.000000089Z","port":8080,"request_uri":"/path"}`: {SandboxID: "sb", ObservedAt: at, Port: 8080, RequestURI: "/path"},
		`{"sandbox_id":"sb","observed_at":"2026-03-04T05:06:07.000000089Z"}`:                                   {SandboxID: "sb", ObservedAt: at},
	} {
		got, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("payload (-want +got):\n%s", diff)
		}
	}
}

// tally counts by word.
type tally struct {
	mu  sync.Mutex
	got map[string]int
}

func (c *tally) Intent(result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got == nil {
		c.got = map[string]int{}
	}
	c.got[result]++
}

func TestResultsAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, seen := &recorder{gate: make(chan struct{})}, &tally{}
		p := renewintent.New(r, time.Hour, seen, slog.New(slog.DiscardHandler))
		stop := start(t, p)
		for i := range 4 { // one for each worker
			p.Used(sandbox.ID(fmt.Sprint("w", i)), 1, "", "")
		}
		synctest.Wait()
		for i := range 8192 + 3 {
			p.Used(sandbox.ID(fmt.Sprint("q", i)), 1, "", "")
		}
		close(r.gate)
		synctest.Wait()
		r.fail(errors.New("refused"))
		p.Used("last", 1, "", "")
		p.Used("last", 1, "", "") // held back, which is no intent
		synctest.Wait()
		stop()
		if diff := cmp.Diff(map[string]int{"published": 8192 + 4, "dropped": 3, "failed": 1}, seen.got); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
	})
}
