package simulation

import (
	"fmt"
	"time"

	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	api "opensandbox/services/api/app"
)

// client is one user of the API, with what it was told.
type client struct {
	p    *plane
	name string
	mine []sandbox.ID
	keys int
}

// entrypoints are what sandboxes run, weighted by repetition.
var entrypoints = [][]string{{"run"}, {"run"}, {"run"}, {"run"}, {"slow", "3"}, {"slow", "4000"}, {"exit", "0"}, {"exit", "3"}, {"missing"}}

// claims are the volumes that sandboxes ask for: few, so that some are shared.
var claims = []string{"a", "b", "c", "d", "e"}

// operate makes some sandboxes and then does random things to them for a while.
func (c *client) operate(t *thread, creates, ops int) {
	for creates > 0 {
		t.sleep(c.p.between(0, 1500*time.Millisecond), nil)
		before := len(c.p.check.last)
		c.create(t)
		if len(c.p.check.last) > before { // else the store is away
			creates--
		}
	}
	for range ops {
		t.sleep(c.p.between(0, 1500*time.Millisecond), nil)
		if len(c.mine) == 0 || c.p.oneIn(6) {
			c.create(t)
			continue
		}
		id := pick(c.p.world, c.mine)
		c.ask(t, func(a *apiProcess) func() { return c.change(a, id) })
	}
}

// ask makes one request through an api process, with which it dies. It returns false when no answer came.
func (c *client) ask(t *thread, request func(*apiProcess) func()) bool {
	a := pick(c.p.world, c.p.apis)
	for a.proc.crashed { // connection refused
		t.sleep(100*time.Millisecond, nil)
	}
	do, over, answered := request(a), false, make(chan struct{}, 1)
	proc := a.proc
	c.p.spawn(proc, c.name, func(*thread) {
		do()
		over = true
		answered <- struct{}{}
	})
	// One in twelve does not wait for long.
	patience := c.p.now.Add(time.Hour)
	if c.p.oneIn(12) {
		patience = c.p.now.Add(c.p.between(0, 4*time.Second))
	}
	for !over && !proc.crashed { // that the connection ends with the process is noticed a little later
		if !c.p.now.Before(patience) {
			c.p.say(c.name, "goes away")
			return false
		}
		t.rest(200*time.Millisecond, answered)
	}
	return over
}

// create makes a sandbox. With a key, what got no answer, or one that says so, is tried again, and sometimes asked for twice at a time.
func (c *client) create(t *thread) {
	req := c.wish()
	again, tries := true, 1
	if req.Key.Set() {
		tries = 4
	}
	request := func(a *apiProcess) func() {
		return func() { again = c.created(a, req) }
	}
	if req.Key.Set() && c.p.oneIn(3) {
		c.p.spawn(&process{name: c.name}, "twice", func(t *thread) {
			t.sleep(c.p.between(0, pick(c.p.world, []time.Duration{time.Millisecond, 300 * time.Millisecond})), nil)
			c.ask(t, func(a *apiProcess) func() { return func() { c.created(a, req) } })
		})
	}
	for i := range tries {
		if c.ask(t, request) && !again {
			return
		}
		c.p.say(c.name, "try %d of key %q is over", i+1, req.Key.Name)
		t.sleep(c.p.between(0, time.Second), nil)
	}
}

// wish is a create with random properties.
func (c *client) wish() api.CreateRequest {
	w := c.p.world
	req := api.CreateRequest{Async: w.oneIn(5), Metadata: map[string]string{"a": "b"},
		Spec: sandbox.Spec{Image: "image", Entrypoint: pick(w, entrypoints), Timeout: w.between(time.Minute, 90*time.Second), Replace: !w.oneIn(3)}}
	switch w.rng.IntN(12) {
	case 0:
		req.Spec.Image = fakeexec.MissingImage + "-image"
	case 1:
		req.Spec.Timeout = 0
	case 2, 3, 4:
		req.Spec.Image = fakeexec.RemoteImage + "-image"
	case 5:
		req.Spec.Image, req.Credentials = fakeexec.PrivateImage+"-image", fakeexec.Credentials()
	}
	if w.oneIn(3) {
		req.Spec.Volumes = []sandbox.Volume{{Name: "v", MountPath: "/v", Claim: &sandbox.VolumeClaim{Name: pick(w, claims), Create: true, Delete: true}}}
	}
	if w.oneIn(2) {
		req.Spec.Requests = sandbox.Resources{CPU: 1000}
	}
	if w.oneIn(2) {
		c.keys++
		req.Key = sandbox.Key{Name: fmt.Sprintf("%s-%d", c.name, c.keys), Hash: "h"}
	}
	return req
}

// created asks for a sandbox and reports whether asking again may help.
func (c *client) created(a *apiProcess, req api.CreateRequest) (again bool) {
	v, err := a.uses.Create(background(), req)
	if err == nil {
		c.p.say(c.name, "created %s: %s", v.Record.ID, v.Status.State)
		c.p.check.answered(req.Key.Name, v.Record.ID)
		c.mine = append(c.mine, v.Record.ID)
		c.see(a, v.Record.ID)
		return false
	}
	c.p.say(c.name, "create failed: %v", err)
	id := sandbox.ID(fault.SubjectOf(err))
	if id == "" || fault.CodeOf(err) == fault.CodeOf(errAway) {
		return away(err) // without an id, or without an outcome
	}
	if r, err := c.p.real.Get(background(), id); err == nil && r.Visible() && !req.Key.Set() && !c.p.check.back.changed[id] {
		c.p.fail("%s: a create that was answered with an error is visible", id)
	}
	return away(err)
}

// see checks that a sandbox whose id was given out is there, unless it was removed.
func (c *client) see(a *apiProcess, id sandbox.ID) {
	_, err := a.uses.Get(background(), api.Ref{ID: id})
	if err == nil || away(err) {
		return
	}
	r, getErr := c.p.real.Get(background(), id)
	if fault.Is(getErr, fault.NotFound) || r.Gone() || c.p.check.back.changed[id] {
		return
	}
	c.p.fail("%s was given out and is not visible: %v", id, err)
}

func (c *client) change(a *apiProcess, id sandbox.ID) func() {
	ref := api.Ref{ID: id}
	switch c.p.rng.IntN(11) {
	case 0, 1:
		return func() { c.done("pause", id, a.uses.Pause(background(), ref)) }
	case 2, 3:
		return func() { c.done("resume", id, a.uses.Resume(background(), ref)) }
	case 4, 5:
		at := c.p.storeNow().Add(c.p.between(-time.Second, 90*time.Second))
		return func() {
			_, err := a.uses.Renew(background(), api.RenewRequest{Ref: ref, ExpiresAt: at})
			c.done("renew", id, err)
		}
	case 6:
		v := "w"
		return func() {
			_, err := a.uses.PatchMetadata(background(), api.PatchRequest{Ref: ref, Patch: map[string]*string{"k": &v, "a": nil}})
			c.done("patch", id, err)
		}
	case 7:
		return func() { c.see(a, id) }
	case 8:
		return func() { c.reach(a, id) }
	default:
		return func() { c.remove(a, id) }
	}
}

func (c *client) done(what string, id sandbox.ID, err error) {
	if err == nil {
		c.p.say(c.name, "%s %s: done", what, id)
	}
}

// reach checks that the address that is given out belongs to the present placement.
func (c *client) reach(a *apiProcess, id sandbox.ID) {
	e, err := a.uses.Endpoint(background(), api.EndpointRequest{Ref: api.Ref{ID: id}, Port: api.ExecdPort})
	if err != nil {
		return
	}
	r, err := c.p.real.Get(background(), id)
	if err == nil && !r.Gone() && (r.Observed.Epoch != r.Placement.Epoch || !given(e.Headers, token(id, r.Placement.Epoch))) {
		c.p.fail("%s has epoch %d, and its endpoint is %v", id, r.Placement.Epoch, e)
	}
}

func given(headers map[string]string, value string) bool {
	for _, v := range headers {
		if v == value {
			return true
		}
	}
	return false
}

// remove deletes; an answer without an error means that nothing is left on any engine.
func (c *client) remove(a *apiProcess, id sandbox.ID) {
	err := a.uses.Delete(background(), api.Ref{ID: id})
	c.p.say(c.name, "delete %s: %v", id, err)
	if err != nil {
		return
	}
	r, getErr := c.p.real.Get(background(), id)
	if getErr == nil && !r.Ended() && !c.p.check.back.changed[id] {
		c.p.fail("%s: delete was answered before the end", id)
	}
}

// clean removes what is listed: what has no deadline, and in half of the runs what has one too. Sandboxes whose api died before it could
// answer are in the list as well.
func (c *client) clean(t *thread, all bool) {
	for range 100 {
		left := 0
		page, err := c.p.real.List(background(), sandbox.Query{Limit: 1000})
		if err != nil {
			c.p.fail("list: %v", err)
		}
		for _, r := range page.Items {
			if !r.Intent.ExpiresAt.IsZero() && !all {
				continue
			}
			left++
			c.remove(c.p.apis[0], r.ID)
		}
		if left == 0 {
			return
		}
		t.sleep(time.Second, nil)
	}
}
