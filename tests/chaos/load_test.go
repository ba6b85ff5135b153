//go:build chaos

package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// image is built by scripts/images.sh.
const image = "opensandbox/busybox:dev"

const tokenHeader = "X-EXECD-ACCESS-TOKEN"

type m = map[string]any

// answer is a response; status is 0 if there was none, or no whole one.
type answer struct {
	status int
	body   []byte
	err    error
}

// caller follows no redirects. Its time-out is longer than any wait of the server.
var caller = &http.Client{Timeout: 45 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// ask makes a request to an api or a router.
func (p *platform) ask(method, url string, body any, header ...string) answer {
	text, err := json.Marshal(body)
	if err != nil {
		return answer{err: err}
	}
	req, err := http.NewRequest(method, url, bytes.NewReader(text))
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("OPEN-SANDBOX-API-KEY", p.APIKey)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := caller.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{err: err}
	}
	return answer{status: res.StatusCode, body: b}
}

// load is what users do.
type load struct {
	p       *platform
	history *history
	// slack is how long it waits for a sandbox to end whose deadline has passed.
	slack time.Duration
	stop  atomic.Bool
	// lived counts the sandboxes that are through.
	lived   atomic.Int64
	workers sync.WaitGroup
}

// startLoad starts the workers. Each has its part of the seed: what it does depends on nothing but that and the answers.
func startLoad(p *platform, h *history, c conditions) *load {
	l := &load{p: p, history: h, slack: c.slack}
	for w := range c.workers {
		l.workers.Go(func() {
			for n := 0; !l.stop.Load(); n++ {
				x := &life{l: l, rng: rand.New(rand.NewPCG(c.seed, uint64(w)<<32|uint64(n))), name: fmt.Sprintf("w%d-%d", w, n)}
				x.live()
				l.lived.Add(1)
				time.Sleep(50 * time.Millisecond) // while all apis are away
			}
		})
	}
	return l
}

func (l *load) end() {
	l.stop.Store(true)
	l.workers.Wait()
}

// life is that of one sandbox.
type life struct {
	l     *load
	rng   *rand.Rand
	name  string
	id    string
	marks int
	token string
}

// api makes a request to one of the apis and records it.
func (x *life) api(c *call, method, path string, body any, header ...string) answer {
	url := x.l.p.apis[x.rng.IntN(2)] + "/v1/sandboxes" + path
	c.Began = time.Now()
	a := x.l.p.ask(method, url, body, header...)
	c.Ended, c.Status = time.Now(), a.status
	switch {
	case a.err != nil:
		c.Said = a.err.Error()
	case !c.ok():
		c.Said = string(a.body[:min(len(a.body), 300)])
	}
	return a
}

// shown is the part of an answer that is checked.
type shown struct {
	ID     string `json:"id"`
	Status struct {
		State   string `json:"state"`
		Reason  string `json:"reason"`
		Message string `json:"message"`
	} `json:"status"`
	Metadata  map[string]string `json:"metadata"`
	ExpiresAt time.Time         `json:"expiresAt"`
}

// fill puts in what an answer shows.
func (c *call) fill(a answer) {
	var s shown
	if c.ok() && json.Unmarshal(a.body, &s) == nil {
		c.Deadline, c.Mark, c.State, c.Reason = s.ExpiresAt, s.Metadata["mark"], s.Status.State, s.Status.Reason
		if c.State == "Failed" {
			c.Said = s.Status.Message
		}
	}
}

// live makes a sandbox, does this and that with it, and ends it: by a delete, or by a deadline that passes.
func (x *life) live() {
	if !x.create() || !x.runs() {
		x.finish()
		return
	}
	for range 3 + x.rng.IntN(6) {
		if x.l.stop.Load() {
			break
		}
		if !x.step() {
			break
		}
		time.Sleep(time.Duration(x.rng.IntN(300)) * time.Millisecond)
	}
	if x.rng.IntN(3) == 0 {
		x.expire()
	}
	x.finish()
}

// create makes the sandbox; with a key it goes on until it knows what came of it.
func (x *life) create() bool {
	spec := m{
		"image": m{"uri": image}, "entrypoint": []string{"tail", "-f", "/dev/null"}, "timeout": 300 + x.rng.IntN(300),
		"resourceLimits": m{"memory": "64Mi"}, "metadata": m{"life": x.name, "mark": "0"},
	}
	if x.rng.IntN(3) == 0 {
		spec["volumes"] = []m{{"name": "v", "mountPath": "/v", "pvc": m{"claimName": x.l.p.Installation + "-" + x.name, "deleteOnSandboxTermination": true}}}
	}
	c := &call{What: "create"}
	var header []string
	if x.rng.IntN(2) == 0 {
		c.Key = x.l.p.Installation + "-" + x.name
		header = append(header, "Idempotency-Key", c.Key)
	}
	if x.rng.IntN(4) == 0 {
		header = append(header, "Prefer", "respond-async")
	}
	for {
		a := x.api(c, http.MethodPost, "", spec, header...)
		var s shown
		if json.Unmarshal(a.body, &s) == nil {
			c.ID = s.ID
		}
		c.fill(a)
		x.l.history.add(c)
		if c.ok() && c.Key != "" && x.id == "" && x.rng.IntN(3) == 0 {
			x.id = c.ID
			c = &call{What: "create", Key: c.Key} // as a client that lost the answer
			continue
		}
		if c.ok() {
			x.id = c.ID
			return true
		}
		if c.Key == "" || c.Status != 0 && c.Status != http.StatusServiceUnavailable || x.l.stop.Load() {
			return x.id != "" // any other answer is the last word about that key
		}
		time.Sleep(500 * time.Millisecond)
		c = &call{What: "create", Key: c.Key}
	}
}

// runs waits until the sandbox runs.
func (x *life) runs() bool {
	for began := time.Now(); time.Since(began) < patience && !x.l.stop.Load(); time.Sleep(250 * time.Millisecond) {
		switch c := x.get(); {
		case c.Status == http.StatusNotFound, c.State == "Failed", c.State == "Terminated":
			return false
		case c.State == "Running":
			return true
		}
	}
	return false
}

func (x *life) get() *call {
	c := &call{What: "get", ID: x.id}
	c.fill(x.api(c, http.MethodGet, "/"+x.id, nil))
	x.l.history.add(c)
	return c
}

// step does one thing; false once the sandbox is gone.
func (x *life) step() bool {
	switch x.rng.IntN(10) {
	case 0, 1:
		x.renew(time.Duration(200+x.rng.IntN(400)) * time.Second)
	case 2:
		x.renew(time.Duration(30+x.rng.IntN(60)) * time.Second) // shorter than before
		x.both(func(x *life) { x.get() }, func(x *life) { x.renew(time.Duration(200+x.rng.IntN(400)) * time.Second) })
	case 3, 4:
		x.patch()
	case 5:
		x.intent("pause")
		x.get()
		x.intent("resume")
	case 6, 7:
		x.command()
	case 8:
		x.both((*life).patch, func(x *life) {
			x.get()
			x.get()
		})
	}
	return x.get().Status != http.StatusNotFound
}

// both does two things at a time, each on a life of its own with a generator of its own.
func (x *life) both(one, two func(*life)) {
	a, b := *x, *x
	a.rng, b.rng = rand.New(rand.NewPCG(x.rng.Uint64(), 1)), rand.New(rand.NewPCG(x.rng.Uint64(), 2))
	var w sync.WaitGroup
	w.Go(func() { one(&a) })
	two(&b)
	w.Wait()
	x.marks = max(a.marks, b.marks)
}

// renew asks for a deadline and reports whether it was acknowledged.
func (x *life) renew(d time.Duration) bool {
	at := time.Now().Add(d).UTC().Truncate(time.Millisecond)
	c := &call{What: "renew", ID: x.id, Deadline: at}
	x.api(c, http.MethodPost, "/"+x.id+"/renew-expiration", m{"expiresAt": at.Format(time.RFC3339Nano)})
	x.l.history.add(c)
	return c.ok()
}

func (x *life) patch() {
	x.marks++
	c := &call{What: "patch", ID: x.id, Mark: fmt.Sprint(x.marks)}
	x.api(c, http.MethodPatch, "/"+x.id+"/metadata", m{"mark": c.Mark})
	x.l.history.add(c)
}

func (x *life) intent(what string) {
	c := &call{What: what, ID: x.id}
	x.api(c, http.MethodPost, "/"+x.id+"/"+what, nil)
	x.l.history.add(c)
}

// command runs one through an api and through a router.
func (x *life) command() {
	if x.token == "" {
		c := &call{What: "endpoint", ID: x.id}
		a := x.api(c, http.MethodGet, "/"+x.id+"/endpoints/44772", nil)
		x.l.history.add(c)
		var e struct{ Headers map[string]string }
		if json.Unmarshal(a.body, &e) != nil || e.Headers[tokenHeader] == "" {
			return
		}
		x.token = e.Headers[tokenHeader]
	}
	for _, way := range []string{x.l.p.apis[x.rng.IntN(2)] + "/v1/sandboxes/" + x.id + "/proxy/44772", x.l.p.routers[x.rng.IntN(2)] + "/" + x.id + "/44772"} {
		c := &call{What: "command", ID: x.id, Began: time.Now()}
		a := x.l.p.ask(http.MethodPost, way+"/command", m{"command": "echo to''gether"}, tokenHeader, x.token)
		c.Ended, c.Status = time.Now(), a.status
		if c.ok() && !strings.Contains(string(a.body), "together") {
			c.Status, c.Said = 0, "no output"
		}
		x.l.history.add(c)
	}
}

// expire shortens the deadline and waits until the sandbox has ended. The end of the load does not shorten the wait: a sandbox that is deleted
// instead would say nothing about deadlines.
func (x *life) expire() {
	at := time.Duration(2+x.rng.IntN(6)) * time.Second
	if !x.renew(at) {
		return // it may live for minutes
	}
	for began := time.Now(); time.Since(began) < at+x.l.slack+10*time.Second; time.Sleep(500 * time.Millisecond) {
		if x.get().Status == http.StatusNotFound {
			return
		}
	}
}

// finish deletes the sandbox.
func (x *life) finish() {
	if x.id == "" {
		return
	}
	for range 3 {
		c := &call{What: "delete", ID: x.id}
		x.api(c, http.MethodDelete, "/"+x.id, nil)
		x.l.history.add(c)
		if !c.open() {
			break
		}
		time.Sleep(time.Second)
	}
	x.get()
}
