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
const rounds = 60

// creates measures create → Running and create → first output beside the raw engine's create+start.
func (b *bench) creates() error {
	r, err := b.raw()
	if err != nil {
		return err
	}
	ways := []func() (string, error){
		r.start,
		b.create,
		b.firstOutput,
	}
	removes := []func(string) error{r.remove, b.remove, b.remove}
	samples := make([][]float64, len(ways))
	for i := range rounds + 1 {
		for k := range ways {
			w := (i + k) % len(ways) // what went before has an effect, so that each goes first as often as the others
			var id string
			t, err := timed(func() (err error) { id, err = ways[w](); return err })
			if err != nil {
				return err
			}
			if err := removes[w](id); err != nil {
				return err
			}
			if i > 0 { // the first round warms up
				samples[w] = append(samples[w], t)
			}
		}
	}
	raw, running, output := samples[0], samples[1], samples[2]
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

// firstOutput creates a sandbox and runs a command in it.
func (b *bench) firstOutput() (string, error) {
	id, err := b.create()
	if err != nil {
		return "", err
	}
	url, token, err := b.endpoint(id, daemonPort)
	if err != nil {
		return "", err
	}
	return id, b.command(url, token, "echo hi")
}

// burstSize is how many creates a burst has.
const burstSize = 100

// burstRounds is how often each burst is repeated. What one burst leaves behind in kernel and engine has an effect on the next, so the
// order changes from round to round, and medians are compared.
const burstRounds = 3

// burst measures a hundred creates at once beside the raw engine at its best concurrency.
func (b *bench) burst() error {
	r, err := b.raw()
	if err != nil {
		return err
	}
	widths := []int{2, 4, 8, 16}
	rates := make([][]float64, len(widths))
	var creates, deletes, each1 []float64
	ok := 0
	for round := range burstRounds {
		for k := range len(widths) + 1 {
			w := (k + 2*round) % (len(widths) + 1)
			if w < len(widths) {
				rate, err := r.burst(widths[w])
				if err != nil {
					return err
				}
				rates[w] = append(rates[w], rate)
				continue
			}
			one, err := b.burstOnce()
			if err != nil {
				return err
			}
			creates, deletes, each1 = append(creates, one.creates), append(deletes, one.deletes), append(each1, one.each...)
			ok += one.ok
		}
	}
	best := 0.0
	for i, w := range widths {
		got := b.add(result{Section: "burst", Name: fmt.Sprintf("raw engine, %d at once", w), Samples: rates[i], Unit: "creates/s", OK: burstRounds * burstSize, Tried: burstRounds * burstSize})
		best = max(best, got.p(50))
	}
	got := result{Section: "burst", Name: "100 creates at once", Samples: creates, Unit: "creates/s", OK: ok, Tried: burstRounds * burstSize}
	got.Note = fmt.Sprintf("median %.0f %% of the raw engine's best; target ≥ 90 %%", 100*got.p(50)/best)
	b.add(got)
	b.add(result{Section: "burst", Name: "100 creates at once: each", Samples: each1, OK: ok, Tried: burstRounds * burstSize})
	b.add(result{Section: "burst", Name: "100 deletes at once", Samples: deletes, Unit: "deletes/s", OK: burstRounds * burstSize, Tried: burstRounds * burstSize})
	return nil
}

// burst starts containers, width at a time, removes them, and returns the starts per second.
func (r *raw) burst(width int) (float64, error) {
	ids := make([]string, burstSize)
	took, err := timed(func() error {
		_, err := each(burstSize, width, func(i int) (err error) { ids[i], err = r.start(); return err })
		return err
	})
	if err != nil {
		return 0, err
	}
	_, err = each(burstSize, 8, func(i int) error { return r.remove(ids[i]) })
	return burstSize / took * 1000, err
}

// burstResult is one burst: rates per second, and how long each create took, in milliseconds.
type burstResult struct {
	creates, deletes float64
	each             []float64
	ok               int
}

// burstOnce creates so many sandboxes at once, and deletes them at once.
func (b *bench) burstOnce() (burstResult, error) {
	var mu sync.Mutex
	var ids []string
	var out burstResult
	took, err := timed(func() (err error) {
		out.ok, err = each(burstSize, burstSize, func(int) error {
			var id string
			t, err := timed(func() (err error) { id, err = b.create(); return err })
			mu.Lock()
			defer mu.Unlock()
			ids, out.each = append(ids, id), append(out.each, t)
			return err
		})
		return err
	})
	if err != nil {
		return out, err
	}
	out.creates = burstSize / took * 1000
	took, err = timed(func() error {
		_, err := each(burstSize, burstSize, func(i int) error { return b.remove(ids[i]) })
		return err
	})
	out.deletes = burstSize / took * 1000
	return out, err
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
