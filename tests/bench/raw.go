package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
)

// raw makes containers that are equal to ours, by the same client library, with nothing of ours around it.
type raw struct {
	b      *bench
	volume string
	port   atomic.Int64
}

func (b *bench) raw() (*raw, error) {
	id, err := os.ReadFile(filepath.Join(b.dir, "data", "installation.id"))
	if err != nil {
		return nil, err
	}
	r := &raw{b: b}
	r.port.Store(30000)
	volumes, err := b.volumes(strings.TrimSpace(string(id)))
	if err != nil || len(volumes) != 1 {
		return nil, fmt.Errorf("the daemon's volume: %v %w", volumes, err)
	}
	r.volume = volumes[0]
	return r, nil
}

// start creates and starts one. The daemon gets its token from its environment, since nothing is attached.
func (r *raw) start() (string, error) {
	ctx := r.b.ctx
	pids := int64(4096)
	cfg := &container.Config{
		Image: image, Entrypoint: []string{"/opt/opensandbox/execd", "--init", "--"}, Cmd: []string{"tail", "-f", "/dev/null"},
		Env: []string{"EXECD_ACCESS_TOKEN=raw", "EXECD_ENVS=/run/opensandbox/env"}, ExposedPorts: nat.PortSet{}, OpenStdin: true,
		Labels: map[string]string{"dev.opensandbox.bench": "raw"}, Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	host := &container.HostConfig{
		CapDrop:     []string{"AUDIT_WRITE", "MKNOD", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_TIME", "SYS_TTY_CONFIG"},
		SecurityOpt: []string{"no-new-privileges=true"}, PortBindings: nat.PortMap{}, NetworkMode: "bridge",
		LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "10m", "max-file": "2"}},
		Tmpfs:     map[string]string{"/run/opensandbox": "rw,nosuid,nodev,mode=1777,size=16m"},
		Mounts:    []mount.Mount{{Type: mount.TypeVolume, Source: r.volume, Target: "/opt/opensandbox", ReadOnly: true, VolumeOptions: &mount.VolumeOptions{NoCopy: true}}},
		Resources: container.Resources{Memory: 128 << 20, NanoCPUs: 1e9, PidsLimit: &pids},
	}
	for _, p := range []string{"44772/tcp", "8080/tcp"} {
		cfg.ExposedPorts[nat.Port(p)] = struct{}{}
		host.PortBindings[nat.Port(p)] = []nat.PortBinding{{HostIP: "0.0.0.0", HostPort: strconv.FormatInt(r.port.Add(1), 10)}}
	}
	c, err := r.b.docker.ContainerCreate(ctx, cfg, host, &network.NetworkingConfig{}, nil, "")
	if err != nil {
		return "", err
	}
	return c.ID, r.b.docker.ContainerStart(ctx, c.ID, container.StartOptions{})
}

func (r *raw) remove(id string) error {
	return r.b.docker.ContainerRemove(context.WithoutCancel(r.b.ctx), id, container.RemoveOptions{Force: true, RemoveVolumes: true})
}

// each runs do for so many, at most width at once, and returns how many succeeded.
func each(count, width int, do func(i int) error) (ok int, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, width)
	for i := range count {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			e := do(i)
			mu.Lock()
			defer mu.Unlock()
			if e != nil {
				err = e
				return
			}
			ok++
		})
	}
	wg.Wait()
	return ok, err
}
