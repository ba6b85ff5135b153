package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"opensandbox/libs/sandbox"
)

// fleetRecords is how many live records the measurements on Redis are made with.
const fleetRecords = 100_000

// fleetReads measures what an api does on a Redis with many records.
func (b *bench) fleetReads() error {
	f, err := b.newFleet()
	if err != nil {
		return err
	}
	defer f.close()
	ids, err := f.fill(fleetRecords)
	if err != nil {
		return err
	}
	if err := f.api(b); err != nil {
		return err
	}
	id := func(i int) string { return "/v1/sandboxes/" + string(ids[(i*7919)%len(ids)]) }
	at := time.Now().Add(48 * time.Hour).UTC()
	for _, x := range []struct {
		name, target string
		connections  int
		next         func(i int) shot
	}{
		{"GET by id", "≥ 8000/s, p99 ≤ 10 ms", 16, func(i int) shot { return get(id(i)) }},
		{"renew", "≥ 5000/s", 16, func(i int) shot {
			return shot{method: "POST", path: id(i) + "/renew-expiration", body: `{"expiresAt":"` + at.Add(time.Duration(i)*time.Millisecond).Format(time.RFC3339Nano) + `"}`}
		}},
		{"list, metadata that 1 % have, page of 20", "p99 ≤ 25 ms", 2, func(i int) shot { return get(fmt.Sprintf("/v1/sandboxes?pageSize=20&metadata=team%%3Dt%d", i%100)) }},
		{"list, metadata that 50 % have, page of 20", "p99 ≤ 25 ms", 2, func(i int) shot { return get(fmt.Sprintf("/v1/sandboxes?pageSize=20&metadata=half%%3D%d", i%2)) }},
		{"list, state and metadata, page of 20", "p99 ≤ 25 ms", 2, func(i int) shot {
			return get(fmt.Sprintf("/v1/sandboxes?pageSize=20&state=Paused&metadata=team%%3Dt%d", i%100))
		}},
	} {
		samples, rate, failed := hammer(b.ctx, f.base, x.connections, 10*time.Second, x.next)
		b.add(result{Section: "redis", Name: x.name, Samples: samples, OK: len(samples) - failed, Tried: len(samples), Note: fmt.Sprintf("%.0f requests/s over %d connections; target %s", rate, x.connections, x.target)})
	}
	pid := f.running["api"].Process.Pid
	b.add(result{Section: "redis", Name: "memory of the api (VmRSS)", Samples: []float64{memoryOf(pid, "VmRSS")}, Unit: "MB", Note: fmt.Sprintf("%d records", fleetRecords)})
	b.add(result{Section: "redis", Name: "memory of Redis (VmRSS)", Samples: []float64{memoryOf(f.running["redis"].Process.Pid, "VmRSS")}, Unit: "MB", Note: fmt.Sprintf("%d records", fleetRecords)})
	return nil
}

// fleetDeadlines measures how late deadlines are decided with many records and a thousand due each second, while every scheduler is killed
// and started again. What is due holds no node, so that its end is the decision: EndedAt is the store's time of it.
func (b *bench) fleetDeadlines() error {
	const seconds, rate = 30, 1000
	f, err := b.newFleet()
	if err != nil {
		return err
	}
	defer f.close()
	if _, err := f.fill(fleetRecords - seconds*rate); err != nil {
		return err
	}
	due := make([]sandbox.ID, seconds*rate)
	first := time.Now().Add(90 * time.Second)
	if _, err := each(len(due), 32, func(i int) error { return f.putDue(due, i, first.Add(time.Duration(i)*time.Second/rate)) }); err != nil {
		return err
	}
	names := []string{"scheduler-0", "scheduler-1"}
	for _, n := range names {
		if err := f.service(b, n, "opensandbox-scheduler"); err != nil {
			return err
		}
	}
	if left := time.Until(first); left < 5*time.Second {
		return fmt.Errorf("filling the store took too long: the first deadline is %v away", left)
	}
	time.Sleep(time.Until(first.Add(seconds * time.Second / 2)))
	for _, n := range names {
		f.kill(n)
	}
	for _, n := range names {
		if err := f.service(b, n, "opensandbox-scheduler"); err != nil {
			return err
		}
	}
	killed := first.Add(seconds * time.Second / 2)
	time.Sleep(time.Until(first.Add((seconds + 5) * time.Second)))
	return b.lateness(f, due, killed)
}

// putDue writes a record that failed for want of a node and is shown until its deadline.
func (f *fleet) putDue(due []sandbox.ID, i int, at time.Time) error {
	due[i] = sandbox.ID(fmt.Sprintf("11111111-0000-4000-8000-%012d", i))
	_, err := f.store.Insert(f.ctx, sandbox.New{ID: due[i], Accepted: true, Spec: sandbox.Spec{Image: image, Entrypoint: []string{"x"}, Timeout: time.Until(at)}})
	if err != nil {
		return err
	}
	_, err = f.store.FailUnplaced(f.ctx, due[i], sandbox.Failure{Reason: sandbox.ReasonNoCapacity, Message: "none", RetainFor: 24 * time.Hour})
	return err
}

func (b *bench) lateness(f *fleet, due []sandbox.ID, killed time.Time) error {
	late := make([]float64, len(due))
	lost := 0
	if _, err := each(len(due), 32, func(i int) error {
		r, err := f.store.Get(f.ctx, due[i])
		if err != nil {
			return err
		}
		late[i] = -1e9
		if r.Ended() {
			late[i] = ms(r.EndedAt.Sub(r.Intent.ExpiresAt))
		}
		return nil
	}); err != nil {
		return err
	}
	var calm, around []float64
	for i, l := range late {
		at := killed.Add(time.Duration(i-len(late)/2) * time.Millisecond)
		switch {
		case l < -1e8:
			lost++
		case at.After(killed.Add(-time.Second)) && at.Before(killed.Add(3*time.Second)):
			around = append(around, l)
		default:
			calm = append(calm, l)
		}
	}
	note := fmt.Sprintf("earliest %.2f; lost %d; target p99 ≤ 50, none early, none lost", slices.Min(late), lost)
	b.add(result{Section: "redis", Name: fmt.Sprintf("deadline decided after, %d records, 1000 due per second", fleetRecords), Samples: calm, Note: note})
	b.add(result{Section: "redis", Name: "the same while both schedulers were killed and started", Samples: around, Note: "from 1 s before to 3 s after kill -9"})
	return nil
}

// fleetCreates measures how many creates per second are taken on and carried out with many records, with an engine in memory.
func (b *bench) fleetCreates() error {
	f, err := b.newFleet()
	if err != nil {
		return err
	}
	defer f.close()
	if _, err := f.fill(fleetRecords); err != nil {
		return err
	}
	for _, n := range []string{"scheduler-0", "scheduler-1"} {
		if err := f.service(b, n, "opensandbox-scheduler"); err != nil {
			return err
		}
	}
	if err := f.store.SetDraining(b.ctx, static, true); err != nil {
		return err
	}
	for _, n := range []string{"agent-0", "agent-1"} {
		agent := exec.Command(filepath.Join(filepath.Dir(b.binary), "fake-agent"), "-node", n, "-redis", f.redis, "-secret", f.secret, "-state", filepath.Join(f.dir, n))
		if err := f.run(n, agent); err != nil {
			return err
		}
	}
	if err := f.api(b); err != nil {
		return err
	}
	if err := b.createsAt(f, 1000, "1000 creates/s asked for"); err != nil {
		return err
	}
	return b.createsAt(f, 0, "as many as are taken")
}

// creating is how long creates are sent.
const creating = 20 * time.Second

// createsAt sends creates at a rate per second, 0 for as many as are taken, and waits until all are Running.
func (b *bench) createsAt(f *fleet, rate int, what string) error {
	body := fmt.Sprintf(`{"image":{"uri":%q},"entrypoint":["run"],"timeout":3600,"resourceLimits":{}}`, image)
	create := shot{method: "POST", path: "/v1/sandboxes", body: body, header: "Prefer: respond-async\r\n", want: 202}
	before, err := f.runningNow()
	if err != nil {
		return err
	}
	began, sent := time.Now(), atomic.Int64{}
	half := make(chan int, 1)
	go func() {
		time.Sleep(creating / 2)
		running, _ := f.runningNow() // shown only
		half <- int(sent.Load()) - (running - before)
	}()
	samples, got, failed := hammer(b.ctx, f.base, 16, creating, func(int) shot {
		if n := sent.Add(1); rate > 0 {
			time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate))))
		}
		return create
	})
	atEnd, err := f.runningNow()
	if err != nil {
		return err
	}
	made, over, running := len(samples)-failed, time.Now(), atEnd
	for running-before < made && time.Since(over) < 2*time.Minute {
		time.Sleep(50 * time.Millisecond)
		if running, err = f.runningNow(); err != nil {
			return err
		}
	}
	b.add(result{Section: "redis", Name: fmt.Sprintf("create accepted (respond-async), %d live records, all services running, engines in memory: %s", fleetRecords, what), Samples: samples, OK: made, Tried: len(samples),
		Note: fmt.Sprintf("%.0f creates/s over 16 connections, 20 s; not Running yet: %d at half time, %d at the end; all %d Running %.1f s later; target ≥ 1000/s, backlog stable",
			got, <-half, made-(atEnd-before), running-before, time.Since(over).Seconds())})
	return nil
}

func (f *fleet) runningNow() (int, error) {
	page, err := f.store.List(f.ctx, sandbox.Query{States: []sandbox.State{sandbox.StateRunning}, Limit: 1})
	return page.Total, err
}

// fleetSplit measures create → Running on a real engine, the single binary and the split services in turn.
func (b *bench) fleetSplit() error {
	f, err := b.newFleet()
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.service(b, "scheduler-0", "opensandbox-scheduler"); err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	if err := f.service(b, "agent", "opensandbox-agent", "OPENSANDBOX_AGENT_NODE=bench-split", "OPENSANDBOX_AGENT_HOST=127.0.0.1", "OPENSANDBOX_AGENT_LISTEN="+address,
		"OPENSANDBOX_DOCKER_PORT_RANGE_MIN=30000", "OPENSANDBOX_DOCKER_PORT_RANGE_MAX=31000", "OPENSANDBOX_AGENT_STATE_DIR="+filepath.Join(f.dir, "state")); err != nil {
		return err
	}
	if err := f.api(b); err != nil {
		return err
	}
	split := &bench{ctx: b.ctx, http: b.http, base: f.base}
	samples := map[string][]float64{}
	for i := range 30 {
		for k, s := range []*bench{b, split} {
			if (i+k)%2 == 1 {
				s = map[*bench]*bench{b: split, split: b}[s]
			}
			var id string
			t, err := timed(func() (err error) { id, err = s.create(); return err })
			if err != nil {
				return err
			}
			name := "single binary"
			if s == split {
				name = "split services"
			}
			samples[name] = append(samples[name], t)
			if err := s.remove(id); err != nil {
				return err
			}
		}
	}
	single := b.add(result{Section: "split", Name: "create → Running, single binary on SQLite", Samples: samples["single binary"]})
	got := result{Section: "split", Name: "create → Running, split services on Redis", Samples: samples["split services"]}
	got.Note = fmt.Sprintf("median %+.1f ms over the single binary; target ≤ +10", got.p(50)-single.p(50))
	b.add(got)
	return nil
}
