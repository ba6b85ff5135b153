//go:build integration

package docker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
)

// newCredentials are of this test only.
func newCredentials() sandbox.Credentials {
	return sandbox.Credentials{Username: "robot", Password: secrettest.New("a password of a registry")}
}

// privateImage pushes an image to a registry with basic authentication, and returns its name.
func privateImage(t *testing.T, e *Engine, c sandbox.Credentials) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "htpasswd")
	cmd := exec.Command("htpasswd", "-iBc", file, c.Username)
	cmd.Stdin = strings.NewReader(c.Password)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("htpasswd (Debian package apache2-utils): %v %s", err, out)
	}
	ref := startRegistryWith(t, "auth: {htpasswd: {realm: test, path: "+file+"}}\n") + "/team/box:1"
	auth, err := json.Marshal(map[string]string{"username": c.Username, "password": c.Password})
	if err != nil {
		t.Fatal(err)
	}
	pushAs(t, e, ref, base64.URLEncoding.EncodeToString(auth))
	return ref
}

// wantRefusal checks an error, and that nothing of it has the password in it.
func wantRefusal(t *testing.T, what string, err error, kind fault.Kind, c sandbox.Credentials) {
	t.Helper()
	if !fault.Is(err, kind) || fault.CodeOf(err) != executor.CodeImage {
		t.Errorf("%s: %v (%v, %q); want %v with code %s", what, err, fault.KindOf(err), fault.CodeOf(err), kind, executor.CodeImage)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, secret := range []string{c.Password, base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))} {
			if !c.Set() {
				continue
			}
			if text := fmt.Sprintf("%v %+v %#v %s", e, e, e, fault.TextOf(e)); strings.Contains(text, secret) {
				t.Errorf("%s: the error has the password in it: %s", what, text)
			}
		}
	}
}

func quiet(string) {}

func TestPullWithCredentials(t *testing.T) {
	e := open(t, nil)
	c := newCredentials()
	ref := privateImage(t, e, c)
	wrong := sandbox.Credentials{Username: c.Username, Password: secrettest.New("a password of a registry")}
	wantRefusal(t, "no credentials", e.EnsureImage(t.Context(), executor.Image{Name: ref}, quiet), fault.Invalid, c)
	err := e.EnsureImage(t.Context(), executor.Image{Name: ref, Credentials: wrong}, quiet)
	wantRefusal(t, "wrong password", err, fault.Invalid, wrong)
	if text := fault.TextOf(err); !strings.Contains(text, ref) || !strings.Contains(text, "image.auth") {
		t.Errorf("the text does not say what to do: %s", text)
	}
	if err := e.EnsureImage(t.Context(), executor.Image{Name: ref, Credentials: c}, quiet); err != nil {
		t.Fatalf("right password: %v", err)
	}
	defer drop(t, e, ref)
	// What is there is used whatever the credentials are, as in OpenSandbox 1.1.1.
	for what, have := range map[string]sandbox.Credentials{"none": {}, "wrong": wrong} {
		if err := e.EnsureImage(t.Context(), executor.Image{Name: ref, Credentials: have}, quiet); err != nil {
			t.Errorf("credentials %s, and the image is there: %v", what, err)
		}
	}
}

// TestPullWithLogin pulls with what "docker login" has written for the user of the process, which is read anew for each pull.
func TestPullWithLogin(t *testing.T) {
	dir := t.TempDir()
	e := open(t, func(cfg *Config) { cfg.ClientConfig = filepath.Join(dir, "config.json") })
	c := newCredentials()
	ref := privateImage(t, e, c)
	want := executor.Image{Name: ref}
	wantRefusal(t, "no login", e.EnsureImage(t.Context(), want, quiet), fault.Invalid, c)
	logIn := func(as sandbox.Credentials) {
		t.Helper()
		registry, _, _ := strings.Cut(ref, "/")
		file, err := json.Marshal(map[string]any{"auths": map[string]any{registry: map[string]any{
			"auth": base64.StdEncoding.EncodeToString([]byte(as.Username + ":" + as.Password)),
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(e.cfg.ClientConfig, file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wrong := sandbox.Credentials{Username: c.Username, Password: secrettest.New("a password of a registry")}
	logIn(wrong)
	err := e.EnsureImage(t.Context(), want, quiet)
	wantRefusal(t, "wrong login", err, fault.Invalid, wrong)
	if text := fault.TextOf(err); !strings.Contains(text, "Docker configuration of the server") {
		t.Errorf("the text does not say whose credentials were refused: %s", text)
	}
	logIn(c)
	// Credentials in the request go over the login.
	err = e.EnsureImage(t.Context(), executor.Image{Name: ref, Credentials: wrong}, quiet)
	wantRefusal(t, "wrong password in the request", err, fault.Invalid, wrong)
	if text := fault.TextOf(err); !strings.Contains(text, "image.auth") {
		t.Errorf("the text does not say whose credentials were refused: %s", text)
	}
	if err := e.EnsureImage(t.Context(), want, quiet); err != nil {
		t.Fatalf("right login: %v", err)
	}
	drop(t, e, ref)
}

// TestPullsAreNotSharedAcrossCredentials lets callers with right, wrong and no credentials want one image at the same time.
func TestPullsAreNotSharedAcrossCredentials(t *testing.T) {
	e := open(t, nil)
	c := newCredentials()
	// The registry holds back the manifest until all have asked, so that all pulls are in progress at once.
	release := make(chan struct{})
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-release
		_, password, _ := r.BasicAuth()
		switch {
		case password == c.Password:
			http.Error(w, `{"errors":[{"code":"UNSUPPORTED","message":"let in"}]}`, http.StatusInternalServerError)
		default:
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
		}
	}))
	front.Start()
	defer front.Close()
	ref := strings.TrimPrefix(front.URL, "http://") + "/team/box:1"
	callers := []sandbox.Credentials{c, c, {}, {Username: c.Username, Password: secrettest.New("a password of a registry")}, {Username: "other", Password: c.Password + "x"}}
	errs := make([]error, len(callers))
	var all sync.WaitGroup
	for i, as := range callers {
		all.Go(func() { errs[i] = e.EnsureImage(t.Context(), executor.Image{Name: ref, Credentials: as}, quiet) })
	}
	eventually(t, "4 pulls, one of them shared", func() bool {
		e.pulls.mu.Lock()
		defer e.pulls.mu.Unlock()
		shared := e.pulls.byImage[executor.Image{Name: ref, Credentials: c}]
		return len(e.pulls.byImage) == 4 && shared != nil && shared.waiters == 2
	})
	close(release)
	all.Wait()
	for i, as := range callers {
		kind := fault.Invalid
		if as == c {
			kind = fault.Internal // let in, and then the registry fails
		}
		wantRefusal(t, fmt.Sprintf("caller %d", i), errs[i], kind, as)
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// fakeRegistry answers the first question of an engine by asking for a password, and the next ones as it is told.
func fakeRegistry(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections() // engines keep the connection to a registry that hangs
		server.Close()
	})
	return strings.TrimPrefix(server.URL, "http://") + "/team/box:1"
}

func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

func TestRegistriesThatMisbehave(t *testing.T) {
	e := open(t, nil)
	c := newCredentials()
	for what, r := range map[string]struct {
		answer http.HandlerFunc
		kind   fault.Kind
	}{
		"resets":          {reset, fault.Internal},
		"answers garbage": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("\x00garbage")) }, fault.Internal},
		"fails":           {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, fault.Internal},
		"repeats what it was sent": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q}]}`, c.Password+" "+r.Header.Get("Authorization")+" denied")
		}, fault.Invalid},
	} {
		err := e.EnsureImage(t.Context(), executor.Image{Name: fakeRegistry(t, r.answer), Credentials: c}, quiet)
		wantRefusal(t, what, err, r.kind, c)
	}
}

// hang answers when the engine has gone.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestRegistryThatHangs(t *testing.T) {
	c := newCredentials()
	e := open(t, func(cfg *Config) { cfg.PullTimeout = 2 * time.Second })
	err := e.EnsureImage(t.Context(), executor.Image{Name: fakeRegistry(t, hang), Credentials: c}, quiet)
	wantRefusal(t, "pull that takes too long", err, fault.Internal, c)
	if !strings.Contains(fault.TextOf(err), "docker.pull_timeout_seconds") {
		t.Errorf("the text does not name the bound: %s", fault.TextOf(err))
	}
	// Whoever gives up does not wait for the bound.
	e = open(t, func(cfg *Config) { cfg.PullTimeout = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	err = e.EnsureImage(ctx, executor.Image{Name: fakeRegistry(t, hang), Credentials: c}, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) || len(e.pulls.byImage) != 0 {
		t.Errorf("given up: %v, %d pulls are left", err, len(e.pulls.byImage))
	}
}

func TestCredentialsAreInNothingOfTheEngine(t *testing.T) {
	e := open(t, nil)
	c := newCredentials()
	ref := privateImage(t, e, c)
	if err := e.EnsureImage(t.Context(), executor.Image{Name: ref, Credentials: c}, quiet); err != nil {
		t.Fatal(err)
	}
	defer drop(t, e, ref)
	out, err := exec.Command("docker", "image", "inspect", ref).CombinedOutput()
	if err != nil || strings.Contains(string(out), c.Password) {
		t.Errorf("inspect: %v; the password shows: %t", err, strings.Contains(string(out), c.Password))
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(home, ".docker", "config.json")); err == nil && strings.Contains(string(text), base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))) {
		t.Error("the credentials were written to the configuration of Docker")
	}
}
