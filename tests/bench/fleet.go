package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"opensandbox/libs/installation"
	"opensandbox/libs/node"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/sandbox"
)

// fleet is the split services on a Redis of their own, with an engine in memory so that only the control plane is measured.
type fleet struct {
	ctx         context.Context
	dir         string
	redis, base string
	secret      string
	store       *redisstore.Store
	session     uint64
	running     map[string]*exec.Cmd
	lease       sync.WaitGroup
	stop        context.CancelFunc
}

// static is a node whose agent is this program: it renews the lease and does nothing else.
const static = "static"

func freeAddress() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// newFleet starts Redis and opens the store.
func (b *bench) newFleet() (*fleet, error) {
	secret := make([]byte, 16)
	_, _ = rand.Read(secret)
	f := &fleet{ctx: b.ctx, dir: filepath.Join(b.dir, "fleet-"+hex.EncodeToString(secret[:4])), secret: hex.EncodeToString(secret), running: map[string]*exec.Cmd{}}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, err
	}
	if err := f.open(); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *fleet) open() error {
	var err error
	if f.redis, err = freeAddress(); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(f.redis)
	if err := f.run("redis", exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", f.dir, "--save", "", "--appendonly", "yes")); err != nil {
		return err
	}
	inst, err := installation.Shared("", f.secret)
	if err != nil {
		return err
	}
	client, err := redisstore.NewClient(redisstore.ClientConfig{Mode: "single", Addrs: []string{f.redis}, Name: "bench"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(f.ctx, 30*time.Second)
	defer cancel()
	if f.store, err = redisstore.Open(ctx, redisstore.Config{Client: client, Installation: inst.ID(), Fingerprint: inst.Fingerprint(),
		Topics: []sandbox.Topic{sandbox.TopicRollCall}}); err != nil {
		return err
	}
	n, err := f.store.Register(ctx, node.Registration{Name: static, EngineID: static, PortMin: 1024, PortMax: 65535})
	if err != nil {
		return err
	}
	f.session = n.Session
	lease, stop := context.WithCancel(f.ctx)
	f.stop = stop
	f.lease.Go(func() { f.keepLease(lease) })
	return nil
}

func (f *fleet) keepLease(ctx context.Context) {
	tick := time.NewTicker(node.LeaseTime / 3)
	defer tick.Stop()
	rollCall, cancel := f.store.Subscribe(sandbox.TopicRollCall)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-rollCall: // as agents do
		}
		_ = f.store.RenewLease(ctx, static, f.session) // the next one may succeed
	}
}

// run starts a process with its log in the fleet's folder.
func (f *fleet) run(name string, cmd *exec.Cmd) error {
	log, err := os.OpenFile(filepath.Join(f.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	f.running[name] = cmd
	return nil
}

// service starts one of the services; their binaries lie beside that of the single one.
func (f *fleet) service(b *bench, name, service string, env ...string) error {
	cmd := exec.Command(filepath.Join(filepath.Dir(b.binary), service))
	cmd.Env = append(os.Environ(), append([]string{
		"HOME=" + f.dir, "OPENSANDBOX_SERVER_API_KEY=" + apiKey, "OPENSANDBOX_SERVER_HOST=127.0.0.1", "OPENSANDBOX_SERVER_ADMIN_LISTEN=",
		"OPENSANDBOX_STORE_TYPE=redis", "OPENSANDBOX_STORE_REDIS_URL=redis://" + f.redis + "/0", "OPENSANDBOX_INTERNAL_SHARED_SECRET=" + f.secret,
		"OPENSANDBOX_SCHEDULER_PLACEMENT_WAIT_SECONDS=30", "OPENSANDBOX_LOG_LEVEL=WARNING",
	}, env...)...)
	return f.run(name, cmd)
}

// api starts an api and waits until it answers.
func (f *fleet) api(b *bench) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(address)
	f.base = "http://" + address
	if err := f.service(b, "api", "opensandbox-api", "OPENSANDBOX_SERVER_PORT="+port); err != nil {
		return err
	}
	for range 1000 {
		if res, err := http.Get(f.base + "/health"); err == nil {
			return res.Body.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("the api never answered; see " + f.dir)
}

// kill is kill -9.
func (f *fleet) kill(name string) {
	if cmd := f.running[name]; cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		delete(f.running, name)
	}
}

func (f *fleet) close() {
	if f.stop != nil {
		f.stop()
		f.lease.Wait()
	}
	if f.store != nil {
		_ = f.store.Close()
	}
	for name, cmd := range f.running {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		delete(f.running, name)
	}
}

// fill writes n records that run on the static node.
func (f *fleet) fill(n int) ([]sandbox.ID, error) {
	ids := make([]sandbox.ID, n)
	_, err := each(n, 32, func(i int) error {
		ids[i] = sandbox.ID(fmt.Sprintf(madeUp+"%012d", i))
		state := sandbox.StateRunning
		if i%10 == 9 {
			state = sandbox.StatePaused
		}
		return f.put(ids[i], i, state)
	})
	return ids, err
}

func (f *fleet) put(id sandbox.ID, i int, state sandbox.State) error {
	_, err := f.store.Insert(f.ctx, sandbox.New{ID: id, Accepted: true,
		Metadata: map[string]string{"team": fmt.Sprintf("t%d", i%100), "half": fmt.Sprint(i % 2)},
		Spec:     sandbox.Spec{Image: image, Entrypoint: []string{"tail", "-f", "/dev/null"}, Timeout: 24 * time.Hour, Env: map[string]string{"A": "b"}}})
	if err != nil {
		return err
	}
	if _, err := f.store.Place(f.ctx, sandbox.PlaceRequest{ID: id, Candidates: []sandbox.Candidate{{Node: static, PortMin: 1024, PortMax: 65535}}}); err != nil {
		return err
	}
	_, err = f.store.Report(f.ctx, sandbox.Report{ID: id, Node: static, Epoch: 1, Session: f.session, Generation: 1, State: state, Started: true,
		Reason: sandbox.ReasonRunning, Addresses: sandbox.Addresses{ContainerIP: "10.0.0.1", Ports: map[int]int{44772: 1, 8080: 2}}})
	return err
}
