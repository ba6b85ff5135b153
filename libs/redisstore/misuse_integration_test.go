//go:build integration

package redisstore

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/fault"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
	"opensandbox/libs/secrettest"
)

// tryOpen opens a store that is expected to be refused, and returns why.
func tryOpen(t *testing.T, cfg Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := Open(ctx, cfg)
	if err == nil {
		_ = s.Close()
		t.Error("the store was opened")
		return nil
	}
	return err
}

// newPassword returns a password of a user of Redis, with what has a meaning elsewhere: a blank, and what ends a user and a password in URLs.
func newPassword() string { return secrettest.New("the password of Redis") + " b:c@d" }

func TestTLSAndUser(t *testing.T) {
	t.Parallel()
	password := newPassword()
	certs := redistest.NewCertificates(t)
	server := redistest.Start(t, redistest.Options{TLS: certs, User: "osb", Password: password})
	right := ClientConfig{Mode: ModeSingle, Addrs: []string{server.Addr()}, User: "osb", Password: password, TLS: true, Roots: certs.Roots, Name: "with blanks"}
	s := open(t, Config{Client: client(t, right)})
	register(t, s)
	if err := life(s, "a", 1); err != nil {
		t.Error(err)
	}
	sound(t, s)
	for what, change := range map[string]func(c *ClientConfig){
		"wrong password":    func(c *ClientConfig) { c.Password = secrettest.New("a wrong password") },
		"unknown user":      func(c *ClientConfig) { c.User = "nobody" },
		"no password":       func(c *ClientConfig) { c.User, c.Password = "", "" },
		"unknown authority": func(c *ClientConfig) { c.Roots = nil },
	} {
		cfg := right
		change(&cfg)
		err := tryOpen(t, Config{Client: client(t, cfg), Installation: "x"})
		if !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v (%s)", what, err, fault.KindOf(err))
		}
		secrettest.Absent(t, what, fmt.Sprint(err))
	}
}

// A user that may touch nothing but the installation's keys and channels is enough.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	server, password := redistest.Start(t, redistest.Options{}), newPassword()
	server.Do("ACL", "SETUSER", "least", "on", ">"+password, "~osb:inst:*", "&osb:inst:*", "-@all", "+@read", "+@write", "+@transaction", "+@scripting", "+@pubsub",
		"+@connection", "+time", "+info", "+wait")
	cfg := single(server)
	cfg.User, cfg.Password = "least", password
	topics := []sandbox.Topic{sandbox.RecordTopic(""), sandbox.TopicPlacement, sandbox.TopicDeadline, sandbox.WorkTopic("n")}
	s := open(t, Config{Client: client(t, cfg), Installation: "inst", Topics: topics})
	register(t, s)
	if err := life(s, "a", 1); err != nil {
		t.Error(err)
	}
	if err := tryOpen(t, Config{Client: client(t, cfg), Installation: "other"}); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("keys of another installation: %v", err)
	}
}

// logged is a log that can be read.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestWarnsOfMemoryOnly(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"nothing on disk", []string{"--appendonly", "no"}, "level=ERROR msg=\"Redis keeps nothing on disk"},
		{"now and then", []string{"--appendonly", "no", "--save", "3600 1"}, "level=WARN msg=\"Redis writes to disk only now and then"},
		{"on disk", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			log := &logged{}
			open(t, Config{Client: client(t, single(redistest.Start(t, redistest.Options{Args: tc.args}))), Log: slog.New(slog.NewTextHandler(log, nil))})
			if got := log.String(); !strings.Contains(got, tc.want) || (tc.want == "" && got != "") {
				t.Errorf("the log says %q; want %q", got, tc.want)
			}
		})
	}
}

func TestWarnsOfDurableMode(t *testing.T) {
	t.Parallel()
	const alone, fsync = "the Redis master has no replica now", "before they are on disk (appendfsync everysec)"
	for _, tc := range []struct {
		name          string
		server        func(t *testing.T, o redistest.Options) *redistest.Server
		args          []string
		alone, fsyncs bool
	}{
		{"as it should be", func(t *testing.T, o redistest.Options) *redistest.Server {
			return redistest.StartReplicated(t, o).Master
		}, []string{"--appendfsync", "always"}, false, false},
		{"as it comes", func(t *testing.T, o redistest.Options) *redistest.Server { return redistest.Start(t, o) }, nil, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			log := &logged{}
			server := tc.server(t, redistest.Options{Args: tc.args})
			open(t, Config{Client: client(t, single(server)), Durable: true, Log: slog.New(slog.NewTextHandler(log, nil))})
			got := log.String()
			if strings.Contains(got, alone) != tc.alone || strings.Contains(got, fsync) != tc.fsyncs {
				t.Errorf("the log says %q", got)
			}
		})
	}
}

func TestTwoInstallations(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	first := open(t, Config{Client: client(t, single(server)), Installation: "same", Fingerprint: "aaaa"})
	open(t, Config{Client: client(t, single(server)), Installation: "same", Fingerprint: "aaaa"})
	open(t, Config{Client: client(t, single(server)), Installation: "same"}) // a process without a key, such as the router
	err := tryOpen(t, Config{Client: client(t, single(server)), Installation: "same", Fingerprint: "bbbb"})
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "server.installation_id") {
		t.Errorf("another installation of that name: %v", err)
	}
	other := open(t, Config{Client: client(t, single(server)), Installation: "other", Fingerprint: "bbbb"})
	if err := life(first, "a", 0); fault.CodeOf(err) != sandbox.ReasonNoCapacity {
		t.Errorf("without a node: %v", err)
	}
	if _, err := other.Get(t.Context(), "a"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the other installation sees it: %v", err)
	}
}

// What a newer version wrote is refused and left as it was, and is in nobody's way.
func TestNewerRecord(t *testing.T) {
	t.Parallel()
	server, ctx := redistest.Start(t, redistest.Options{}), t.Context()
	log := &logged{}
	clock := sandboxtest.NewClock()
	s := open(t, Config{Client: client(t, single(server)), Clock: clock.Now, Log: slog.New(slog.NewTextHandler(log, nil))})
	register(t, s)
	for _, id := range []sandbox.ID{"new", "old"} {
		if err := life(s, id, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Renew(ctx, id, "t", clock.Now().Add(24*365*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	server.Do("HSET", s.keys.record("new"), "z", "2", "b", `{"shape":"unknown"}`)
	dump := server.Do("DUMP", s.keys.record("new"))
	value := "v"
	for what, call := range map[string]func() error{
		"get":         func() error { _, err := s.Get(ctx, "new"); return err },
		"accept":      func() error { _, err := s.Accept(ctx, "new"); return err },
		"renew":       func() error { _, err := s.Renew(ctx, "new", "t", clock.Now().Add(time.Hour)); return err },
		"gone":        func() error { _, err := s.SetGone(ctx, "new", sandbox.ReasonDeleted); return err },
		"set desired": func() error { _, err := s.SetDesired(ctx, "new", sandbox.DesiredPaused, 1); return err },
		"patch":       func() error { _, err := s.PatchMetadata(ctx, "new", "t", map[string]*string{"k": &value}); return err },
		"report": func() error {
			_, err := s.Report(ctx, sandbox.Report{ID: "new", Node: "n", Epoch: 1, Session: 1})
			return err
		},
		"cleaned": func() error { return s.Cleaned(ctx, sandbox.Cleaned{ID: "new", Node: "n", Epoch: 1, Session: 1}) },
		"lose":    func() error { _, err := s.Lose(ctx, sandbox.Loss{ID: "new", Node: "n", Epoch: 1}); return err },
		"on node": func() error { _, err := s.OnNode(ctx, "n"); return err },
		"key": func() error {
			_, err := s.Insert(ctx, sandbox.New{ID: "x", Tenant: "t", Key: sandbox.Key{Name: "new", Hash: "h"}})
			return err
		},
	} {
		if err := call(); fault.CodeOf(err) != sandbox.CodeNewerRecord {
			t.Errorf("%s: %v", what, err)
		}
	}
	on, err := s.OnNode(ctx, "n")
	if unread, ok := sandbox.UnreadOf(err); !ok || !slices.Equal(unread, []sandbox.ID{"new"}) || len(on) != 1 || on[0].ID != "old" {
		t.Errorf("on the node: %+v beside %v", on, err)
	}
	clock.Advance(24 * 366 * time.Hour)
	due, err := s.ExpireDue(ctx, clock.Now(), 10)
	if diff := cmp.Diff([]sandbox.ID{"old"}, due); err != nil || diff != "" {
		t.Errorf("expired: %v (-want +got)\n%s", err, diff)
	}
	page, err := s.List(ctx, sandbox.Query{Tenant: "t", Limit: 10})
	if err != nil || len(page.Items) != 1 || page.Items[0].ID != "old" {
		t.Errorf("list: %+v, %v", page.Items, err)
	}
	if after := server.Do("DUMP", s.keys.record("new")); after != dump {
		t.Error("the record was changed")
	}
	if got := strings.Count(log.String(), "passed over"); got != 1 {
		t.Errorf("the log says it %d times", got)
	}
}

func TestNewerStore(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	s := open(t, Config{Client: client(t, single(server)), Installation: "i"})
	server.Do("HSET", s.keys.meta(), metaSchema, "2")
	err := tryOpen(t, Config{Client: client(t, single(server)), Installation: "i"})
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), `"2"`) || !strings.Contains(err.Error(), `"1"`) {
		t.Errorf("a store of a newer version: %v", err)
	}
}

func TestOpenWaits(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	server.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, Config{Client: client(t, single(server)), Installation: "i"}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a server that is not there: %v", err)
	}
	c, opened := client(t, single(server)), make(chan *Store)
	go func() {
		s, err := Open(t.Context(), Config{Client: c, Installation: "i"})
		if err != nil {
			t.Errorf("open: %v", err)
		}
		opened <- s
	}()
	server.Start()
	if s := <-opened; s != nil {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
