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
}

// entrypoints are what sandboxes run, weighted by repetition.
var entrypoints = [][]string{{"run"}, {"run"}, {"run"}, {"run"}, {"slow", "3"}, {"slow", "4000"}, {"exit", "0"}, {"exit", "3"}, {"missing"}}

// operate does random things to sandboxes for a while. Each call is made through an api process, and dies with it.
func (c *client) operate(t *thread, creates, ops int) {
	for i := range creates + ops {
		t.sleep(c.p.between(0, 1500*time.Millisecond), nil)
		a := pick(c.p.world, c.p.apis)
		for a.proc.crashed { // connection refused
			t.sleep(100*time.Millisecond, nil)
		}
		var do func()
		if i < creates || len(c.mine) == 0 {
			do = c.create(a)
		} else {
			do = c.change(a, pick(c.p.world, c.mine))
		}
		over := false
		c.p.spawn(a.proc, fmt.Sprintf("%s-%d", c.name, i), func(*thread) { do(); over = true })
		proc := a.proc
		for !over && !proc.crashed {
			t.sleep(20*time.Millisecond, nil)
			if c.p.rng.IntN(400) == 0 {
				c.p.say(c.name, "goes away")
				break
			}
		}
	}
}

func (c *client) create(a *apiProcess) func() {
	req := api.CreateRequest{Async: c.p.rng.IntN(5) == 0, Metadata: map[string]string{"a": "b"},
		Spec: sandbox.Spec{Image: "image", Entrypoint: pick(c.p.world, entrypoints), Timeout: c.p.between(time.Minute, 90*time.Second)}}
	switch c.p.rng.IntN(12) {
	case 0:
		req.Spec.Image = fakeexec.MissingImage + "-image"
	case 1:
		req.Spec.Timeout = 0
	case 2, 3, 4:
		req.Spec.Image = fakeexec.RemoteImage + "-image"
	}
	return func() {
		v, err := a.uses.Create(background(), req)
		if err != nil {
			c.p.say(c.name, "create failed: %v", err)
			if id := sandbox.ID(fault.SubjectOf(err)); id != "" {
				c.p.check.inserted(id)
				if _, err := a.uses.Get(background(), api.Ref{ID: id}); err == nil && !fault.Is(err, fault.NotFound) {
					c.p.fail("%s: a create that was answered with an error is visible", id)
				}
			}
			return
		}
		c.p.say(c.name, "created %s: %s", v.Record.ID, v.Status.State)
		c.p.check.inserted(v.Record.ID)
		c.mine = append(c.mine, v.Record.ID)
		c.see(a, v.Record.ID)
	}
}

// see checks that a sandbox whose id was given out is there, unless it was removed.
func (c *client) see(a *apiProcess, id sandbox.ID) {
	_, err := a.uses.Get(background(), api.Ref{ID: id})
	if err == nil {
		return
	}
	r, getErr := c.p.real.Get(background(), id)
	if fault.Is(getErr, fault.NotFound) || r.Gone() {
		return
	}
	c.p.fail("%s was given out and is not visible: %v", id, err)
}

func (c *client) change(a *apiProcess, id sandbox.ID) func() {
	ref := api.Ref{ID: id}
	switch c.p.rng.IntN(10) {
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
	default:
		return func() { c.remove(a, id) }
	}
}

func (c *client) done(what string, id sandbox.ID, err error) {
	if err == nil {
		c.p.say(c.name, "%s %s: done", what, id)
	}
}

// remove deletes; an answer without an error means that nothing is left on any engine.
func (c *client) remove(a *apiProcess, id sandbox.ID) {
	err := a.uses.Delete(background(), api.Ref{ID: id})
	c.p.say(c.name, "delete %s: %v", id, err)
	if err != nil {
		return
	}
	r, getErr := c.p.real.Get(background(), id)
	if getErr == nil && !r.Ended() {
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
