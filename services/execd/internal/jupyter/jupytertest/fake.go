// Package jupytertest has what a Jupyter server must do for execd, as a suite, and a server in memory that passes it and fails on demand.
package jupytertest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

// Fake is a Jupyter server in memory. Its kernels know the snippets of the suite, and those of On.
type Fake struct {
	// URL is its address.
	URL   string
	token string

	mu       sync.Mutex
	sessions map[string]*fakeKernel // By id.
	made     int
	looks    int
	scripts  map[string]func(*Talk)
	holds    chan struct{}
	reached  chan struct{}
	faults   map[string]int
	loses    bool

	ctx context.Context
}

// fakeKernel is a session with its kernel; both have the same id.
type fakeKernel struct {
	id, path, language string

	mu        sync.Mutex
	count     int
	x         string
	silent    int // How many requests are only replied to: nothing that is published arrives.
	interrupt chan struct{}
	gone      context.Context
	stop      context.CancelFunc
}

// NewFake starts a server that ends with the test.
func NewFake(t testing.TB, token string) *Fake {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Fake{token: token, sessions: map[string]*fakeKernel{}, scripts: map[string]func(*Talk){}, faults: map[string]int{}, ctx: ctx}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/kernelspecs", f.kernelSpecs)
	mux.HandleFunc("GET /api/sessions", f.listSessions)
	mux.HandleFunc("POST /api/sessions", f.createSession)
	mux.HandleFunc("DELETE /api/sessions/{id}", f.deleteSession)
	mux.HandleFunc("GET /api/kernels/{id}", f.getKernel)
	mux.HandleFunc("POST /api/kernels/{id}/interrupt", f.interruptKernel)
	mux.HandleFunc("GET /api/kernels/{id}/channels", f.channels)
	srv := httptest.NewServer(f.guarded(mux))
	f.URL = srv.URL
	t.Cleanup(func() {
		cancel()
		f.Forget()
		srv.CloseClientConnections()
		srv.Close()
	})
	return f
}

// On lets all kernels answer a snippet as script says.
func (f *Fake) On(snippet string, script func(*Talk)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scripts[snippet] = script
}

// Hold lets the next creates of sessions wait until release is called. Each sends to reached when it has come.
func (f *Fake) Hold() (reached <-chan struct{}, release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := make(chan struct{})
	f.holds, f.reached = held, make(chan struct{}, 100)
	return f.reached, sync.OnceFunc(func() {
		f.mu.Lock()
		f.holds = nil
		f.mu.Unlock()
		close(held)
	})
}

// Fail lets all requests of a pattern, such as "POST /api/sessions", answer with the status. 0 ends that. -1 cuts the connection.
func (f *Fake) Fail(pattern string, status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[pattern] = status
}

// Lose makes sessions without an answer.
func (f *Fake) Lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loses = true
}

// Made counts the sessions that were ever made.
func (f *Fake) Made() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.made
}

// Looks counts the times that a kernel was found when somebody asked for it.
func (f *Fake) Looks() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looks
}

// Sessions counts the sessions there are.
func (f *Fake) Sessions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sessions)
}

// Forget drops all sessions, as a restart does.
func (f *Fake) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, k := range f.sessions {
		k.stop()
		delete(f.sessions, id)
	}
}

func (f *Fake) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "token "+f.token {
			answer(w, http.StatusForbidden, map[string]any{"message": "Forbidden"})
			return
		}
		f.mu.Lock()
		status := f.faults[r.Method+" "+r.URL.Path]
		f.mu.Unlock()
		switch {
		case status < 0:
			panic(http.ErrAbortHandler)
		case status > 0:
			answer(w, status, map[string]any{"message": "as the test wants"})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (f *Fake) kernelSpecs(w http.ResponseWriter, _ *http.Request) {
	specs := map[string]any{}
	for name, language := range map[string]string{"python": "python", "python3": "python", "bash": "bash"} {
		specs[name] = map[string]any{"name": name, "spec": map[string]any{"language": language}}
	}
	answer(w, http.StatusOK, map[string]any{"default": "python3", "kernelspecs": specs})
}

func (k *fakeKernel) view() map[string]any {
	return map[string]any{"id": k.id, "path": k.path, "kernel": map[string]any{"id": k.id, "name": k.language, "execution_state": "idle"}}
}

func (f *Fake) listSessions(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := []any{}
	for _, id := range slices.Sorted(maps.Keys(f.sessions)) {
		all = append(all, f.sessions[id].view())
	}
	answer(w, http.StatusOK, all)
}

func (f *Fake) createSession(w http.ResponseWriter, r *http.Request) {
	var want struct {
		Path   string
		Kernel struct{ Name string }
	}
	if err := json.NewDecoder(r.Body).Decode(&want); err != nil {
		answer(w, http.StatusBadRequest, map[string]any{"message": err.Error()})
		return
	}
	f.mu.Lock()
	held, reached := f.holds, f.reached
	f.mu.Unlock()
	if held != nil {
		reached <- struct{}{}
		select {
		case <-held:
		case <-f.ctx.Done():
		}
	}
	f.mu.Lock()
	f.made++
	k := &fakeKernel{id: fmt.Sprintf("session-%d", f.made), path: want.Path, language: want.Kernel.Name, interrupt: make(chan struct{}, 1)}
	k.gone, k.stop = context.WithCancel(f.ctx)
	f.sessions[k.id] = k
	lost := f.loses
	f.mu.Unlock()
	if lost {
		panic(http.ErrAbortHandler)
	}
	answer(w, http.StatusCreated, k.view())
}

// kernel answers 404 and returns nil when there is none.
func (f *Fake) kernel(w http.ResponseWriter, r *http.Request) *fakeKernel {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.sessions[r.PathValue("id")]
	if k == nil {
		answer(w, http.StatusNotFound, map[string]any{"message": "Kernel does not exist: " + r.PathValue("id")})
	}
	return k
}

func (f *Fake) deleteSession(w http.ResponseWriter, r *http.Request) {
	k := f.kernel(w, r)
	if k == nil {
		return
	}
	f.mu.Lock()
	delete(f.sessions, k.id)
	f.mu.Unlock()
	k.stop()
	w.WriteHeader(http.StatusNoContent)
}

func (f *Fake) getKernel(w http.ResponseWriter, r *http.Request) {
	if k := f.kernel(w, r); k != nil {
		f.mu.Lock()
		f.looks++
		f.mu.Unlock()
		answer(w, http.StatusOK, k.view()["kernel"])
	}
}

func (f *Fake) interruptKernel(w http.ResponseWriter, r *http.Request) {
	if k := f.kernel(w, r); k != nil {
		select {
		case k.interrupt <- struct{}{}:
		default:
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// channels runs what comes over a WebSocket, one snippet after the other.
func (f *Fake) channels(w http.ResponseWriter, r *http.Request) {
	k := f.kernel(w, r)
	if k == nil {
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 24)
	// A kernel that goes takes its connections with it.
	defer context.AfterFunc(k.gone, func() { _ = conn.CloseNow() })()
	for {
		_, data, err := conn.Read(k.gone)
		if err != nil {
			return
		}
		var request struct {
			Header  struct{ MsgID, MsgType string }
			Content struct{ Code string }
		}
		var raw struct {
			Header map[string]string `json:"header"`
		}
		if json.Unmarshal(data, &request) != nil || json.Unmarshal(data, &raw) != nil {
			return
		}
		talk := &Talk{ctx: k.gone, conn: conn, kernel: k, request: raw.Header["msg_id"]}
		switch {
		case k.unheard():
			talk.Reply("ok")
		case raw.Header["msg_type"] == "kernel_info_request":
			talk.Status("busy")
			talk.Message("kernel_info_reply", "", object{"status": "ok"})
			talk.Status("idle")
		default:
			k.execute(f, talk, request.Content.Code)
		}
	}
}

// unheard reports whether nothing that the kernel publishes arrives now.
func (k *fakeKernel) unheard() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.silent == 0 {
		return false
	}
	k.silent--
	return true
}

// execute runs one snippet.
func (k *fakeKernel) execute(f *Fake, talk *Talk, snippet string) {
	select { // An interrupt of before is not for this snippet.
	case <-k.interrupt:
	default:
	}
	k.mu.Lock()
	k.count++
	k.mu.Unlock()
	f.mu.Lock()
	script := f.scripts[snippet]
	f.mu.Unlock()
	if script == nil {
		script = snippets[strings.TrimSpace(snippet)]
	}
	if script == nil {
		script = func(t *Talk) { t.Raise("SyntaxError", "the fake does not know this snippet") }
	}
	talk.Status("busy")
	script(talk)
	if !talk.over {
		talk.Finish()
	}
}
