package simulation

import (
	"context"
	"time"

	"opensandbox/libs/sandbox"
	api "opensandbox/services/api/app"
	scheduler "opensandbox/services/scheduler/app"
)

// startScheduler runs the loops of a scheduler, each with the shape of the real one.
func (p *plane) startScheduler(name string, l *link) {
	proc := &process{name: name, link: l}
	proc.restart = func() { p.startScheduler(name, l) }
	p.schedulers = append(p.schedulers, proc)
	cfg := scheduler.Config{RetainFailed: retainFailed, PlacementWait: 500 * time.Millisecond, Ports: []int{api.ExecdPort, api.AppPort}, NodeLostAfter: nodeLostAfter}
	s := scheduler.NewStepper(cfg, scheduler.Deps{Store: p.port(), Log: log()}, p.rng)
	uptime := func() time.Duration { return p.now.Sub(p.start) }
	clock := scheduler.NewSlewedClock(p.storeNow, uptime)
	p.loop(proc, "placement", sandbox.TopicPlacement, s.Place)
	p.loop(proc, "repair", sandbox.TopicDeadline, s.Repair)
	p.loop(proc, "deadlines", sandbox.TopicDeadline, func(ctx context.Context) (time.Time, error) {
		now, lag := clock.Now()
		wake, err := s.Expire(ctx, now)
		if !wake.IsZero() {
			wake = wake.Add(lag)
		}
		return wake, err
	})
	p.loop(proc, "node loss", "", func(ctx context.Context) (time.Time, error) {
		if p.variant.HastyLoss {
			return time.Time{}, p.giveUpHastily(ctx)
		}
		wake, err := s.GiveUp(ctx, p.now)
		if !wake.IsZero() {
			wake = wake.Add(p.storeSkew) // the loop sleeps by the wall clock
		}
		return wake, err
	})
}

func (p *plane) loop(proc *process, name string, topic sandbox.Topic, step func(context.Context) (time.Time, error)) {
	p.spawn(proc, name, func(t *thread) {
		var hint <-chan struct{}
		if topic != "" {
			var cancel func()
			hint, cancel = p.store.Subscribe(topic)
			defer cancel()
		}
		for {
			wake, err := step(background())
			pause := 3 * time.Second
			if err == nil && !wake.IsZero() {
				pause = min(pause, wake.Sub(p.storeNow()))
			}
			t.sleep(pause, hint)
		}
	})
}

// giveUpHastily is what a careless scheduler would do: look at the leases alone.
func (p *plane) giveUpHastily(ctx context.Context) error {
	nodes, err := p.port().Nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if !n.Removed && p.storeNow().Before(n.LeaseUntil.Add(nodeLostAfter)) {
			continue
		}
		records, err := p.port().OnNode(ctx, n.Name)
		if err != nil {
			return err
		}
		for _, r := range records {
			_, err := p.port().Lose(ctx, sandbox.Loss{ID: r.ID, Node: n.Name, Epoch: r.Placement.Epoch, LeaseUntil: n.LeaseUntil, RetainFor: retainFailed})
			if err != nil && !sandbox.IsStale(err) {
				return err
			}
		}
	}
	return nil
}
