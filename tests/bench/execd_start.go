package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
)

const (
	childStarts     = 50
	containerStarts = 20
	// idle is how long the daemon has nothing to do before its memory is read.
	idle = 2 * time.Second
)

// daemonStart measures how soon the daemon answers, what it takes while it idles, and how large the program is.
func (b *bench) daemonStart() error {
	samples := make([]float64, 0, childStarts)
	var memory []float64
	for i := range childStarts {
		began := time.Now()
		d, err := b.startDaemon("--init", "--", "tail", "-f", "/dev/null")
		if err != nil {
			return err
		}
		samples = append(samples, ms(time.Since(began)))
		if i%10 == 0 {
			time.Sleep(idle)
			memory = append(memory, memoryOf(d.cmd.Process.Pid, "VmRSS"))
		}
		d.stop()
	}
	b.add(result{Section: "execd-start", Name: "fork to /ping, with an entry point", Samples: samples, Note: "4 ms of it are a wait for an entry point that fails at once"})
	b.add(result{Section: "execd-start", Name: "memory while idle (VmRSS)", Samples: memory, Unit: "MB", Note: "target ≤ 20 MB"})
	if err := b.daemonContainers(); err != nil {
		return err
	}
	for _, arch := range []string{"amd64", "arm64"} {
		if fi, err := os.Stat(b.execd + "-" + arch); err == nil {
			b.add(result{Section: "execd-start", Name: "size of the program, linux/" + arch, Samples: []float64{float64(fi.Size()) / 1e6}, Unit: "MB", Note: "target ≤ 20 MB"})
		}
	}
	return nil
}

// daemonContainers starts containers whose first program is the daemon, in turn with others whose first program is the plain file server.
func (b *bench) daemonContainers() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var plain, ours, ready []float64
	for range containerStarts {
		took, _, err := b.timeToAnswer(self, func(port string) []string { return []string{"-serve", ":" + port} })
		if err != nil {
			return err
		}
		plain = append(plain, took)
		took, since, err := b.timeToAnswer(b.execd, func(port string) []string {
			return []string{"--port", port, "--init", "--", "tail", "-f", "/dev/null"}
		})
		if err != nil {
			return err
		}
		ours, ready = append(ours, took), append(ready, since)
	}
	base := b.add(result{Section: "execd-start", Name: "start of a container to the first answer: plain Go server", Samples: plain})
	got := result{Section: "execd-start", Name: "start of a container to the first answer: the daemon", Samples: ours}
	got.Note = fmt.Sprintf("median %+.2f ms", got.p(50)-base.p(50))
	b.add(got)
	b.add(result{Section: "execd-start", Name: "the engine says started → the daemon answers", Samples: ready, Note: "target ≤ 10 ms; below 0: it answered before the engine said so"})
	return nil
}

// timeToAnswer starts a container on the network of the host, so that nothing but the program decides when its port answers. It returns
// the time from asking the engine, and from the moment that the engine notes as the start, to the first answer.
func (b *bench) timeToAnswer(program string, args func(port string) []string) (asked, started float64, err error) {
	address, err := freeAddress()
	if err != nil {
		return 0, 0, err
	}
	_, port, _ := net.SplitHostPort(address)
	if program, err = filepath.EvalSymlinks(program); err != nil {
		return 0, 0, err
	}
	c, err := b.docker.ContainerCreate(b.ctx, &container.Config{Image: image, Entrypoint: append([]string{"/program"}, args(port)...)},
		&container.HostConfig{NetworkMode: "host", Mounts: []mount.Mount{{Type: mount.TypeBind, Source: program, Target: "/program", ReadOnly: true}}}, nil, nil, "")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = exec.Command("docker", "rm", "-f", c.ID).Run() }()
	var answered time.Time
	var failed error
	var asking sync.WaitGroup
	began := time.Now()
	asking.Go(func() {
		failed = answers(address)
		answered = time.Now()
	})
	err = b.docker.ContainerStart(b.ctx, c.ID, container.StartOptions{})
	asking.Wait()
	if err != nil || failed != nil {
		return 0, 0, fmt.Errorf("%w %w", err, failed)
	}
	seen, err := b.docker.ContainerInspect(b.ctx, c.ID)
	if err != nil {
		return 0, 0, err
	}
	noted, err := time.Parse(time.RFC3339Nano, seen.State.StartedAt)
	return ms(answered.Sub(began)), ms(answered.Sub(noted)), err
}
