package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"
)

func (b *bench) volumes(owner string) ([]string, error) {
	l, err := b.docker.VolumeList(b.ctx, volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", "dev.opensandbox.execd-of="+owner))})
	var names []string
	for _, v := range l.Volumes {
		names = append(names, v.Name)
	}
	return names, err
}

// rounds is how often each single thing is measured, in turn with what it is compared with.
const rounds = 30

// creates measures create → Running and create → first output beside the raw engine's create+start.
func (b *bench) creates() error {
	r, err := b.raw()
	if err != nil {
		return err
	}
	var raw, running, output []float64
	for i := range rounds + 1 {
		var id string
		a, err := timed(func() (err error) { id, err = r.start(); return err })
		if err != nil {
			return err
		}
		if err := r.remove(id); err != nil {
			return err
		}
		c, err := timed(func() (err error) { id, err = b.create(); return err })
		if err != nil {
			return err
		}
		if err := b.remove(id); err != nil {
			return err
		}
		o, err := timed(func() (err error) {
			if id, err = b.create(); err != nil {
				return err
			}
			url, token, err := b.endpoint(id, daemonPort)
			if err != nil {
				return err
			}
			return b.command(url, token, "echo hi")
		})
		if err != nil {
			return err
		}
		if err := b.remove(id); err != nil {
			return err
		}
		if i > 0 { // the first round warms up
			raw, running, output = append(raw, a), append(running, c), append(output, o)
		}
	}
	base := b.add(result{Section: "create", Name: "raw engine: create+start", Samples: raw})
	over := func(r result) string { return fmt.Sprintf("median %+.1f ms over raw", r.p(50)-base.p(50)) }
	got := result{Section: "create", Name: "create → Running", Samples: running}
	got.Note = over(got) + "; target ≤ +15"
	b.add(got)
	got = result{Section: "create", Name: "create → first output", Samples: output}
	got.Note = over(got) + "; target ≤ +40"
	b.add(got)
	return nil
}

// burst measures a hundred creates at once beside the raw engine at its best concurrency.
func (b *bench) burst() error {
	r, err := b.raw()
	if err != nil {
		return err
	}
	const count = 100
	best := 0.0
	for _, width := range []int{2, 4, 8, 16} {
		ids := make([]string, count)
		took, err := timed(func() error {
			_, err := each(count, width, func(i int) (err error) { ids[i], err = r.start(); return err })
			return err
		})
		if err != nil {
			return err
		}
		rate := count / took * 1000
		best = max(best, rate)
		b.add(result{Section: "burst", Name: fmt.Sprintf("raw engine, %d at once", width), Samples: []float64{rate}, Unit: "creates/s", OK: count, Tried: count})
		if _, err := each(count, 8, func(i int) error { return r.remove(ids[i]) }); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	var ids []string
	var each1 []float64
	ok := 0
	took, err := timed(func() error {
		n, err := each(count, count, func(int) error {
			var id string
			t, err := timed(func() (err error) { id, err = b.create(); return err })
			mu.Lock()
			defer mu.Unlock()
			ids, each1 = append(ids, id), append(each1, t)
			return err
		})
		ok = n
		return err
	})
	if err != nil {
		return err
	}
	rate := count / took * 1000
	b.add(result{Section: "burst", Name: "100 creates at once", Samples: []float64{rate}, Unit: "creates/s", OK: ok, Tried: count,
		Note: fmt.Sprintf("%.0f %% of the raw engine's best; target ≥ 90 %%", 100*rate/best)})
	b.add(result{Section: "burst", Name: "100 creates at once: each", Samples: each1, OK: ok, Tried: count})
	took, err = timed(func() error {
		_, err := each(count, count, func(i int) error { return b.remove(ids[i]) })
		return err
	})
	if err != nil {
		return err
	}
	b.add(result{Section: "burst", Name: "100 deletes at once", Samples: []float64{count / took * 1000}, Unit: "deletes/s", OK: count, Tried: count})
	return nil
}

// fate is what became of a sandbox with a deadline, in milliseconds after it.
type fate struct{ decided, dead, gone float64 }

// deadlines measures when a deadline is decided, when the processes are dead and when the container is gone.
func (b *bench) deadlines() error {
	r, err := b.raw()
	if err != nil {
		return err
	}
	var decided, gone []float64
	for range 10 {
		f, err := b.expire(1)
		if err != nil {
			return err
		}
		decided, gone = append(decided, f[0].decided), append(gone, f[0].gone)
	}
	b.add(result{Section: "deadlines", Name: "one due: decided after", Samples: decided, Note: fmt.Sprintf("target ≤ 50, never < 0; earliest %.2f", slices.Min(decided))})
	b.add(result{Section: "deadlines", Name: "one due: container gone after", Samples: gone, Note: "target ≤ 500"})
	var rawFive, dead, allGone []float64
	for range 5 {
		ids := make([]string, 5)
		if _, err := each(5, 5, func(i int) (err error) { ids[i], err = r.start(); return err }); err != nil {
			return err
		}
		t, err := timed(func() error {
			_, err := each(5, 5, func(i int) error { return r.remove(ids[i]) })
			return err
		})
		if err != nil {
			return err
		}
		rawFive = append(rawFive, t)
		f, err := b.expire(5)
		if err != nil {
			return err
		}
		last := fate{}
		for _, x := range f {
			last.dead, last.gone = max(last.dead, x.dead), max(last.gone, x.gone)
		}
		dead, allGone = append(dead, last.dead), append(allGone, last.gone)
	}
	base := b.add(result{Section: "deadlines", Name: "raw engine: five removals at once", Samples: rawFive})
	b.add(result{Section: "deadlines", Name: "five due: all processes dead after", Samples: dead, Note: "target ≤ 500"})
	got := result{Section: "deadlines", Name: "five due: all gone after", Samples: allGone}
	got.Note = fmt.Sprintf("median %+.0f ms over raw; target ≤ +250", got.p(50)-base.p(50))
	b.add(got)
	return nil
}

// expire gives count sandboxes one deadline and watches.
func (b *bench) expire(count int) ([]fate, error) {
	ids := make([]string, count)
	if _, err := each(count, count, func(i int) (err error) { ids[i], err = b.create(); return err }); err != nil {
		return nil, err
	}
	filter := filters.NewArgs(filters.Arg("type", "container"), filters.Arg("event", "die"), filters.Arg("event", "destroy"))
	messages, errs := b.docker.Events(b.ctx, events.ListOptions{Filters: filter})
	at := time.Now().Add(2 * time.Second)
	for _, id := range ids {
		if status, body, err := b.call("POST", "/v1/sandboxes/"+id+"/renew-expiration", m{"expiresAt": at.UTC().Format(time.RFC3339Nano)}); err != nil || status != http.StatusOK {
			return nil, fmt.Errorf("renew: %d %s %w", status, body, err)
		}
	}
	at = at.Truncate(time.Microsecond)
	seen := make(chan float64, 1)
	go func() { seen <- b.decided(ids[0], at) }()
	fates := make([]fate, count)
	for left := count; left > 0; {
		select {
		case e := <-messages:
			i := slices.Index(ids, e.Actor.Attributes["opensandbox.io/id"])
			if i < 0 {
				continue
			}
			after := float64(e.TimeNano-at.UnixNano()) / 1e6
			if e.Action == events.ActionDie {
				fates[i].dead = after
				continue
			}
			fates[i].gone = after
			left--
		case err := <-errs:
			return nil, err
		case <-time.After(time.Minute):
			return nil, fmt.Errorf("%d of %d sandboxes never went", left, count)
		}
	}
	fates[0].decided = <-seen
	return fates, nil
}

// decided asks for a sandbox all the time and returns when it stopped being Running, relative to its deadline.
func (b *bench) decided(id string, at time.Time) float64 {
	time.Sleep(time.Until(at) - 300*time.Millisecond)
	for {
		status, body, err := b.call("GET", "/v1/sandboxes/"+id, nil)
		now := time.Now()
		var s struct{ Status struct{ State string } }
		if err == nil && (status == http.StatusNotFound || (json.Unmarshal(body, &s) == nil && s.Status.State != "Running")) {
			return ms(now.Sub(at))
		}
		time.Sleep(time.Millisecond)
	}
}
