package jupyter_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/secrettest"
	"opensandbox/services/execd/internal/code"
	"opensandbox/services/execd/internal/jupyter"
	"opensandbox/services/execd/internal/jupyter/jupytertest"
)

const patience = 20 * time.Second

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// pair is a fake server and a client that looks often.
func pair(t *testing.T) (*jupytertest.Fake, *jupyter.Client) {
	t.Helper()
	token := secrettest.New("the token of Jupyter")
	fake := jupytertest.NewFake(t, token)
	return fake, client(t, jupyter.Config{URL: fake.URL, Token: token, Look: 20 * time.Millisecond, MaxMessage: 1 << 16})
}

func client(t *testing.T, cfg jupyter.Config) *jupyter.Client {
	t.Helper()
	c, err := jupyter.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

func TestBadAddresses(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "localhost:44771", "ftp://x", "http://", "http://[::1", "http://a b"} {
		if _, err := jupyter.New(jupyter.Config{URL: bad, Token: "t"}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestLocalPort(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]int{
		"http://127.0.0.1:44771": 44771, "http://localhost:1/x": 1, "http://[::1]:2": 2, "https://127.1.2.3": 443, "http://0.0.0.0:3": 3,
		"http://10.0.0.1:44771": 0, "http://jupyter:44771": 0,
	} {
		if got := client(t, jupyter.Config{URL: url, Token: "t"}).LocalPort(); got != want {
			t.Errorf("%s: got %d, want %d", url, got, want)
		}
	}
}

// TestBadTalk has servers that break their protocol, or the connection, in the middle of a run.
func TestBadTalk(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		script func(*jupytertest.Fake, *jupytertest.Talk)
		want   string
	}{
		"not JSON": {func(_ *jupytertest.Fake, talk *jupytertest.Talk) {
			talk.Raw(websocket.MessageText, []byte("{"))
			talk.Leave()
		}, "no message of its protocol"},
		"no type": {func(_ *jupytertest.Fake, talk *jupytertest.Talk) {
			talk.Raw(websocket.MessageText, []byte("{}"))
			talk.Leave()
		}, "no message of its protocol"},
		"binary": {func(_ *jupytertest.Fake, talk *jupytertest.Talk) {
			talk.Raw(websocket.MessageBinary, []byte{0, 0, 0, 9, 0, 0, 0, 1})
			talk.Leave()
		}, "no message of its protocol"},
		"content": {func(_ *jupytertest.Fake, talk *jupytertest.Talk) {
			talk.Message("execute_result", "", map[string]any{"execution_count": "one"})
			talk.Leave()
		}, "no message of its protocol"},
		"only a reply": {func(_ *jupytertest.Fake, talk *jupytertest.Talk) {
			talk.Reply("ok")
			talk.Leave()
		}, "what it said was lost"},
		"cut":     {func(_ *jupytertest.Fake, talk *jupytertest.Talk) { talk.Cut() }, "connection to the Jupyter server was lost"},
		"too big": {func(_ *jupytertest.Fake, talk *jupytertest.Talk) { talk.Print("stdout", strings.Repeat("x", 1<<17)) }, "more than 65536 bytes"},
		"dead":    {func(_ *jupytertest.Fake, talk *jupytertest.Talk) { talk.Status("dead"); talk.Leave() }, "the kernel died"},
		"forgotten": {func(fake *jupytertest.Fake, talk *jupytertest.Talk) {
			fake.Forget()
			talk.Leave()
		}, code.ErrGone.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, c := pair(t)
			fake.On("bad", func(talk *jupytertest.Talk) { tt.script(fake, talk) })
			k := jupytertest.Python(t, c, "")
			err := jupytertest.Run(bounded(t), t, k, "bad", jupytertest.NewRecorder())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestTalkOfOthers has messages that are not for this run, and a reply that comes late or says more than the messages before.
func TestTalkOfOthers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		script func(*jupytertest.Talk)
		want   jupytertest.Seen
	}{
		"other runs": {func(talk *jupytertest.Talk) {
			talk.Message("stream", "other", map[string]any{"name": "stdout", "text": "not ours"})
			talk.Message("status", "other", map[string]any{"execution_state": "idle"})
			talk.Message("execute_reply", "other", map[string]any{"status": "ok"})
			talk.Message("comm_open", "", map[string]any{})
			talk.Buffered("stream", map[string]any{"name": "stdout", "text": "ours"})
		}, jupytertest.Seen{Out: "ours"}},
		"reply never comes": {func(talk *jupytertest.Talk) { talk.Print("stdout", "x"); talk.Status("idle"); talk.Leave() }, jupytertest.Seen{Out: "x"}},
		"reply first": {func(talk *jupytertest.Talk) {
			talk.Reply("ok")
			talk.Print("stdout", "after the reply")
			talk.Status("idle")
			talk.Leave()
		}, jupytertest.Seen{Out: "after the reply"}},
		"aborted": {func(talk *jupytertest.Talk) { talk.Reply("aborted"); talk.Status("idle"); talk.Leave() },
			jupytertest.Seen{Errors: []string{"ExecutionAborted: the kernel did not run the code"}}},
		"error in the reply only": {func(talk *jupytertest.Talk) {
			talk.Message("execute_reply", "", map[string]any{"status": "error", "ename": "E", "evalue": "v", "traceback": []string{"t"}})
			talk.Status("idle")
			talk.Leave()
		}, jupytertest.Seen{Errors: []string{"E: v"}}},
		"pieces": {func(talk *jupytertest.Talk) { talk.Result(map[string]any{"text/plain": []string{"a", "b"}, "x": 1}) },
			jupytertest.Seen{Values: []map[string]string{{"text/plain": "ab", "x": "1"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, c := pair(t)
			fake.On("odd", tt.script)
			k := jupytertest.Python(t, c, "")
			rec := jupytertest.NewRecorder()
			if err := jupytertest.Run(bounded(t), t, k, "odd", rec); err != nil {
				t.Fatal(err)
			}
			got := rec.Seen()
			got.Counts, got.Traces = nil, 0
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestSilence has a server that stops answering while a snippet runs: silence alone is no failure, but a server that is not there is one.
func TestSilence(t *testing.T) {
	t.Parallel()
	fake, c := pair(t)
	quiet := make(chan struct{})
	fake.On("quiet", func(talk *jupytertest.Talk) { close(quiet); talk.Sleep() })
	k := jupytertest.Python(t, c, "")
	done := make(chan error, 1)
	run, err := k.Connect(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- run.Run(bounded(t), "quiet", jupytertest.NewRecorder()) }()
	<-quiet
	before := fake.Looks()
	eventually(t, "several looks", func() bool {
		select {
		case err := <-done:
			t.Fatalf("a silent kernel was given up: %v", err)
		default:
		}
		return fake.Looks() > before+5
	})
	fake.Fail("GET /api/kernels/"+k.ID(), -1)
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("got %v", err)
		}
	case <-time.After(patience):
		t.Fatal("a server that is gone was not noticed")
	}
}

// TestNothingIsLeft has creates that fail in ways in which the server makes a kernel all the same.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	t.Run("nobody waits", func(t *testing.T) {
		t.Parallel()
		fake, c := pair(t)
		reached, release := fake.Hold()
		defer release()
		ctx, leave := context.WithCancel(bounded(t))
		defer leave()
		go func() {
			<-reached
			leave()
		}()
		if _, err := c.Start(ctx, "python", ""); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		release()
		eventually(t, "the kernel was made and ended again", func() bool { return fake.Made() == 1 && fake.Sessions() == 0 })
	})
	t.Run("answer lost", func(t *testing.T) {
		t.Parallel()
		fake, c := pair(t)
		fake.Lose()
		if _, err := c.Start(bounded(t), "python", ""); err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("got %v", err)
		}
		if fake.Made() != 1 || fake.Sessions() != 0 {
			t.Errorf("%d kernels were made, %d are left; want 1 and 0", fake.Made(), fake.Sessions())
		}
	})
}

// TestRefusals has answers that are no success.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{500: "status 500: as the test wants", 302: "JUPYTER_TOKEN", 401: "JUPYTER_TOKEN", 404: "status 404"} {
		fake, c := pair(t)
		fake.Fail("POST /api/sessions", status)
		if _, err := c.Start(bounded(t), "python", ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: got %v, want %q in it", status, err, want)
		} else {
			secrettest.Absent(t, "the error", err.Error())
		}
	}
}

// TestNoJupyter has things that are no Jupyter server, or not yet one.
func TestNoJupyter(t *testing.T) {
	t.Parallel()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer page.Close()
	_, err := client(t, jupyter.Config{URL: page.URL, Token: "t"}).Start(bounded(t), "python", "")
	if err == nil || !strings.Contains(err.Error(), "does not answer as one") {
		t.Errorf("a page: got %v", err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close()
	c := client(t, jupyter.Config{URL: "http://" + address, Token: "t"})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if _, err := c.Start(ctx, "python", ""); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody listens: got %v", err)
	}
	// One that starts later is waited for.
	refused, started := make(chan struct{}), make(chan error, 1)
	once := sync.OnceFunc(func() { close(refused) })
	seen := httptrace.WithClientTrace(bounded(t), &httptrace.ClientTrace{ConnectDone: func(_, _ string, err error) {
		if err != nil {
			once()
		}
	}})
	go func() {
		_, err := c.Start(seen, "python", "")
		started <- err
	}()
	late := &http.Server{Handler: page.Config.Handler}
	defer late.Close()
	<-refused
	if ln, err = net.Listen("tcp4", address); err != nil {
		t.Fatal(err)
	}
	go late.Serve(ln) //nolint:errcheck // Ends with Close.
	if err := <-started; err == nil || !strings.Contains(err.Error(), "does not answer as one") {
		t.Errorf("it listens later: got %v", err)
	}
}

// TestStopAndInterruptFail keeps the errors of a server that does not do as it is told.
func TestStopAndInterruptFail(t *testing.T) {
	t.Parallel()
	fake, c := pair(t)
	k := jupytertest.Python(t, c, "")
	fake.Fail("DELETE /api/sessions/"+k.ID(), 500)
	fake.Fail("POST /api/kernels/"+k.ID()+"/interrupt", 500)
	fake.Fail("GET /api/kernels/"+k.ID()+"/channels", 500)
	if err := k.Stop(bounded(t)); err == nil {
		t.Error("a stop that failed was taken for a success")
	}
	if err := k.Interrupt(bounded(t)); err == nil || errors.Is(err, code.ErrGone) {
		t.Errorf("interrupt: got %v", err)
	}
	if _, err := k.Connect(bounded(t)); err == nil || errors.Is(err, code.ErrGone) || !strings.Contains(err.Error(), "status 500") {
		t.Errorf("connect: got %v", err)
	}
	fake.Fail("DELETE /api/sessions/"+k.ID(), 0)
}
