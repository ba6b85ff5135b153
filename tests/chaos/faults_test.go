//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"opensandbox/libs/redisstore/redistest"
)

// fault is one thing that went wrong, from its start until it was healed.
type fault struct {
	Kind, Target string
	Began, Ended time.Time
	// ID is the sandbox whose container was touched by hand.
	ID string
	// Said is what could not be done about it.
	Said string
}

// faults does one thing after another, until the time is over.
type faults struct {
	t     *testing.T
	p     *platform
	watch *watch
	rng   *rand.Rand
	deck  []func() *fault
	list  []*fault
}

func newFaults(t *testing.T, p *platform, w *watch, seed uint64) *faults {
	return &faults{t: t, p: p, watch: w, rng: rand.New(rand.NewPCG(seed, 1<<63))}
}

// run deals the faults from a deck that is shuffled anew when it is empty, so that each kind happens before one happens twice.
func (f *faults) run(until time.Time) {
	for time.Now().Before(until) {
		f.wait(1000, 3000)
		if len(f.deck) == 0 {
			f.deck = f.shuffled()
		}
		next := f.deck[0]
		f.deck = f.deck[1:]
		x := next()
		x.Ended = time.Now()
		f.list = append(f.list, x)
		f.t.Logf("%s %s %s%s, %s %s", x.Began.Format("15:04:05.0"), x.Kind, x.Target, x.ID, x.Ended.Sub(x.Began).Round(time.Millisecond), x.Said)
	}
}

// wait waits for a random number of milliseconds.
func (f *faults) wait(least, most int) {
	time.Sleep(time.Duration(least+f.rng.IntN(most-least)) * time.Millisecond)
}

func (f *faults) shuffled() []func() *fault {
	var deck []func() *fault
	for _, x := range f.p.programs {
		deck = append(deck, func() *fault { return f.killed(x) }, func() *fault { return f.stopped(x) })
	}
	for _, e := range f.p.engines {
		deck = append(deck, func() *fault { return f.cut(e) })
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			deck = append(deck, func() *fault { return f.engine(e, sig) })
		}
	}
	deck = append(deck, f.redisRestart, f.redisKill, f.redisFailover, f.replicaKill, f.sentinelKill)
	for _, how := range []string{"removed", "killed", "paused"} {
		for range 2 {
			deck = append(deck, func() *fault { return f.byHand(how) })
		}
	}
	f.rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	return deck
}

func began(kind, target string) *fault { return &fault{Kind: kind, Target: target, Began: time.Now()} }

// killed is kill -9, and a supervisor that notices after a while.
func (f *faults) killed(p *program) *fault {
	x := began("kill", p.name)
	p.Kill()
	f.wait(100, 3000)
	if err := p.start(); err != nil {
		f.t.Fatal(err)
	}
	return x
}

// stopped is SIGSTOP, sometimes for longer than the lease of a node, and SIGCONT.
func (f *faults) stopped(p *program) *fault {
	x := began("stop", p.name)
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		x.Said = err.Error()
	}
	most := 6000
	if f.rng.IntN(3) == 0 {
		most = 20_000
	}
	f.wait(1000, most)
	if err := p.Signal(syscall.SIGCONT); err != nil {
		x.Said = err.Error()
	}
	return x
}

// cut takes a node with its engine, its agent and its sandboxes off the network.
func (f *faults) cut(e *engine) *fault {
	x := began("cut off", e.name)
	if err := e.link.sever(); err != nil {
		x.Said = err.Error()
	}
	f.wait(3000, 20_000)
	if err := e.link.mend(); err != nil {
		f.t.Fatal(err)
	}
	return x
}

// engine ends a dockerd and starts it again.
func (f *faults) engine(e *engine, sig syscall.Signal) *fault {
	x := began(map[syscall.Signal]string{syscall.SIGTERM: "dockerd stopped", syscall.SIGKILL: "dockerd killed"}[sig], e.name)
	pid, err := e.signal(sig)
	if err != nil {
		x.Said = err.Error()
		return x
	}
	for deadline := time.Now().Add(patience); syscall.Kill(pid, 0) == nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("dockerd of %s does not end", e.name)
		}
	}
	f.wait(500, 4000)
	if err := e.start(); err != nil {
		f.t.Fatal(err)
	}
	return x
}

var removeByForce = container.RemoveOptions{Force: true}

// byHand does something to a container that runs.
func (f *faults) byHand(how string) *fault {
	x := began("container "+how, "")
	c, ok := f.watch.anyRunning(f.rng)
	if !ok {
		x.Said = "there is none"
		return x
	}
	x.ID = c.id
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var err error
	switch docker := c.engine.docker; how {
	case "removed":
		err = docker.ContainerRemove(ctx, c.container, removeByForce)
	case "killed":
		err = docker.ContainerKill(ctx, c.container, "KILL")
	case "paused":
		err = docker.ContainerPause(ctx, c.container)
	}
	if err != nil {
		x.Said = err.Error() // it has ended in the meantime
	}
	return x
}

// servers returns the master and the replica as they are now.
func (f *faults) servers() (master, replica *redistest.Server) {
	g := f.p.redis
	if redistest.IsMaster(g.Master) {
		return g.Master, g.Replica
	}
	return g.Replica, g.Master
}

// redisRestart ends the master and starts it at once: the sentinels may or may not notice.
func (f *faults) redisRestart() *fault {
	master, _ := f.servers()
	x := began("redis restarted", master.Addr())
	master.Kill()
	f.startAgain(master)
	f.redisWhole()
	return x
}

// redisKill ends the master for long enough that the sentinels replace it.
func (f *faults) redisKill() *fault {
	master, _ := f.servers()
	x := f.down("redis killed", master, 3000, 8000)
	f.redisWhole()
	return x
}

// down ends a server of the group for a random number of milliseconds.
func (f *faults) down(kind string, s *redistest.Server, least, most int) *fault {
	x := began(kind, s.Addr())
	s.Kill()
	f.wait(least, most)
	f.startAgain(s)
	return x
}

// startAgain starts a server of Redis as what it is to the sentinels. One that has a file for its configuration finds it there; these have arguments,
// which still say what it was in the beginning. Two servers that are each other's replica would stay so: to the sentinels there would be a master that
// is a replica, and a replica that has not heard of its master for too long.
func (f *faults) startAgain(s *redistest.Server) {
	s.Start()
	for _, sentinel := range f.p.redis.Sentinels {
		at, err := masterBy(sentinel)
		if err != nil || sentinel == s {
			continue
		}
		role := []any{"REPLICAOF", "NO", "ONE"}
		if at != s.Addr() {
			host, port, _ := strings.Cut(at, ":")
			role = []any{"REPLICAOF", host, port}
		}
		c := s.Client()
		_ = c.Do(context.Background(), role...).Err() // a sentinel says no; redisWhole finds out about others
		_ = c.Close()
		return
	}
}

// redisFailover tells the sentinels to replace a healthy master.
func (f *faults) redisFailover() *fault {
	master, _ := f.servers()
	x := began("redis failed over", master.Addr())
	c := f.p.redis.Sentinels[f.rng.IntN(3)].Client()
	defer c.Close() //nolint:errcheck // the command has been answered
	if err := c.Do(context.Background(), "SENTINEL", "FAILOVER", redistest.MasterName).Err(); err != nil {
		x.Said = err.Error()
	}
	f.wait(2000, 4000)
	f.redisWhole()
	return x
}

func (f *faults) replicaKill() *fault {
	_, replica := f.servers()
	x := f.down("redis replica killed", replica, 1000, 6000)
	f.redisWhole()
	return x
}

func (f *faults) sentinelKill() *fault {
	return f.down("sentinel killed", f.p.redis.Sentinels[f.rng.IntN(3)], 1000, 6000)
}

// redisWhole waits until there is one master, with a replica, that the sentinels agree on: another fault before that would be two at a time,
// which durable mode does not claim to survive.
func (f *faults) redisWhole() {
	eventually(f.t, "Redis is whole again", func() bool {
		master, replica := f.servers()
		if !redistest.IsMaster(master) || redistest.IsMaster(replica) || !f.linked(replica) {
			return false
		}
		for _, s := range f.p.redis.Sentinels {
			if at, err := masterBy(s); err != nil || at != master.Addr() {
				return false
			}
		}
		return true
	})
}

func (f *faults) linked(replica *redistest.Server) bool {
	c := replica.Client()
	defer c.Close() //nolint:errcheck // only read
	info, err := c.Info(context.Background(), "replication").Result()
	return err == nil && strings.Contains(info, "master_link_status:up")
}

// masterBy is the master that a sentinel names.
func masterBy(s *redistest.Server) (string, error) {
	c := s.Client()
	defer c.Close() //nolint:errcheck // only read
	addr, err := c.Do(context.Background(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", redistest.MasterName).Slice()
	if err != nil {
		return "", err
	}
	if len(addr) != 2 {
		return "", errors.New("the sentinel knows no master")
	}
	return fmt.Sprintf("%v:%v", addr[0], addr[1]), nil
}
