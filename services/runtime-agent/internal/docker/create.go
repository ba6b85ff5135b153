package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/services/runtime-agent/internal/delivery"
)

// Where things are inside a sandbox.
const (
	// runDir is a small file system in memory that any user of the image may write to.
	runDir  = "/run/opensandbox"
	envFile = runDir + "/env"
	// runDirOptions: sticky like /tmp, and bounded, since it counts as memory of the sandbox.
	runDirOptions = "rw,nosuid,nodev,mode=1777,size=16m"
)

// Bounds of a sandbox's log, so that code which writes without end does not fill the node's disk.
var logLimits = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "10m", "max-file": "2"}}

// Create makes the container.
func (e *Engine) Create(ctx context.Context, p executor.Plan) error {
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	if e.network == hostMode {
		e.hostTurn.Lock()
		defer e.hostTurn.Unlock()
		if err := e.checkHost(ctx, p.ID); err != nil {
			return err
		}
	}
	err := e.create(ctx, p)
	if err == nil {
		return nil
	}
	e.unpin(ctx, p.Ref)
	switch {
	case fault.CodeOf(err) != "" || fault.Is(err, fault.Unavailable):
		return err
	case errdefs.IsNotFound(err) && strings.Contains(err.Error(), "No such image"):
		e.pulls.forget(p.Image)
	case errdefs.IsNotFound(err) && strings.Contains(err.Error(), "does not match the specified platform"):
		// The registry has it for another platform only, and the engine took that: looking again would find the same.
		return fault.Newf(fault.Invalid, "image %q is not available for platform %s", p.Image, p.Platform).WithCode(executor.CodeImage).Because(err)
	}
	return classify("create", err)
}

// create makes the container with its volumes, and returns the engine's own errors.
func (e *Engine) create(ctx context.Context, p executor.Plan) error {
	if len(p.Volumes) > 0 {
		e.claims.RLock()
		defer e.claims.RUnlock()
	}
	mounts, err := e.mounts(ctx, p)
	if err != nil {
		return err
	}
	cfg, host, nets := e.spec(p)
	host.Mounts = append(host.Mounts, mounts...)
	_, err = e.api.ContainerCreate(ctx, cfg, host, nets, platform(p.Platform), containerName(p.ID))
	return err
}

// unpin lets go of what was held for the start of a container: it has it by now, or will never have it.
func (e *Engine) unpin(ctx context.Context, r executor.Ref) {
	if err := e.pins.Release(pinned(r)); err != nil {
		e.cfg.Log.WarnContext(ctx, "cannot let go of what was to be mounted", "sandbox", r.ID, "error", err)
	}
}

// platform is os/arch as the engine's API has it; nil leaves it to the engine.
func platform(s string) *ocispec.Platform {
	if s == "" {
		return nil
	}
	parts := strings.SplitN(s, "/", 3)
	p := &ocispec.Platform{OS: parts[0]}
	if len(parts) > 1 {
		p.Architecture = parts[1]
	}
	if len(parts) > 2 {
		p.Variant = parts[2]
	}
	return p
}

func (e *Engine) spec(p executor.Plan) (*container.Config, *container.HostConfig, *network.NetworkingConfig) {
	cfg := &container.Config{
		Image: p.Image, Labels: e.labels(p), Env: e.environment(p),
		Entrypoint: []string{delivery.Path, "--init", "--token-stdin", "--"}, Cmd: p.Entrypoint,
		// The token comes through the standard input; it stays open to a second attach, by an agent that takes over.
		OpenStdin: true, AttachStdin: true, ExposedPorts: nat.PortSet{},
		// The image may define a health check, which would run a process in each sandbox for ever.
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(e.network), CapDrop: e.cfg.DropCapabilities, LogConfig: logLimits, PortBindings: nat.PortMap{},
		Runtime: p.Runtime, SecurityOpt: e.security, Binds: e.cfg.SandboxBinds,
		Tmpfs:  map[string]string{runDir: runDirOptions},
		Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: e.volume, Target: delivery.Dir, ReadOnly: true, VolumeOptions: &mount.VolumeOptions{NoCopy: true}}},
		Resources: container.Resources{
			Memory: p.Limits.Memory, NanoCPUs: p.Limits.CPU * 1e6, PidsLimit: &e.cfg.PidsLimit,
		},
	}
	if p.GPUs != 0 {
		host.DeviceRequests = []container.DeviceRequest{{Count: p.GPUs, Capabilities: [][]string{{"gpu"}}}}
	}
	for c, h := range p.Ports {
		port := nat.Port(strconv.Itoa(c) + "/tcp")
		cfg.ExposedPorts[port] = struct{}{}
		host.PortBindings[port] = []nat.PortBinding{{HostIP: e.cfg.PublishHost, HostPort: strconv.Itoa(h)}}
	}
	nets := &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{}}
	if mac := hardwareAddress(p.Ports); e.hardware && mac != "" {
		if e.perEndpoint {
			nets.EndpointsConfig[e.network] = &network.EndpointSettings{MacAddress: mac}
		} else {
			cfg.MacAddress = mac //nolint:staticcheck // the only way before API 1.44
		}
	}
	return cfg, host, nets
}

// environment is the operator's for all sandboxes, the user's, then ours: what the daemon needs cannot be overridden.
func (e *Engine) environment(p executor.Plan) []string {
	all := maps.Clone(e.cfg.SandboxEnv)
	if all == nil {
		all = map[string]string{}
	}
	for _, k := range p.Unset {
		delete(all, k)
	}
	maps.Copy(all, p.Env)
	env := make([]string, 0, len(all)+2)
	for k, v := range all {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return append(env, "EXECD_ENVS="+envFile, "OPENSANDBOX_ID="+string(p.ID))
}

// hardwareAddress returns an address with our prefix that is unique on the engine, because leased ports are: the smallest of them is in it.
func hardwareAddress(ports map[int]int) string {
	least := 0
	for _, h := range ports {
		if least == 0 || h < least {
			least = h
		}
	}
	if least == 0 {
		return ""
	}
	return net.HardwareAddr{macPrefix[0], macPrefix[1], 0, 0, byte(least >> 8), byte(least)}.String()
}

// Start starts the container with its standard input attached, and writes the token to it.
func (e *Engine) Start(ctx context.Context, p executor.Plan) error {
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	if err := e.repin(ctx, p); err != nil {
		return err
	}
	defer e.unpin(ctx, p.Ref)
	err := e.start(ctx, p)
	if lacksDaemon(err) {
		// Somebody has removed the volume while no sandbox used it, and the engine has made it anew for this one, empty.
		e.cfg.Log.WarnContext(ctx, "the volume with the daemon was removed; filling it again", "volume", e.volume)
		if _, err := e.provision(ctx); err != nil {
			return classify("deliver the daemon", err)
		}
		err = e.start(ctx, p)
	}
	return startFault(err, p.Ports)
}

// repin holds again what an agent that has ended held for the start. The places are the same.
func (e *Engine) repin(ctx context.Context, p executor.Plan) error {
	if len(p.Volumes) == 0 || e.pins.Holds(pinned(p.Ref)) {
		return nil
	}
	_, err := e.mounts(ctx, p)
	if err != nil {
		e.unpin(ctx, p.Ref)
	}
	return err
}

// start returns the engine's own errors.
func (e *Engine) start(ctx context.Context, p executor.Plan) error {
	name := containerName(p.ID)
	stdin, err := e.api.ContainerAttach(ctx, name, container.AttachOptions{Stream: true, Stdin: true})
	if err != nil {
		return attachError(err)
	}
	defer stdin.Close()
	// Written first: the engine holds it until the daemon reads, which then need not wait for the answer to start to come back here.
	if err := deliverToken(stdin, p.Token, e.network != hostMode); err != nil {
		return err
	}
	return e.api.ContainerStart(ctx, name, container.StartOptions{})
}

// attachError gives the engine's refusal of an attach the class that the client's library does not: the connection is taken over before
// it looks at the answer.
func attachError(err error) error {
	if strings.Contains(err.Error(), "received 404") {
		return fmt.Errorf("attach: %w: %w", errdefs.ErrNotFound, err)
	}
	return fmt.Errorf("attach: %w", err)
}

// lacksDaemon recognises a start that failed because the daemon is not where it should be.
func lacksDaemon(err error) bool {
	return err != nil && strings.Contains(err.Error(), delivery.Path) && strings.Contains(err.Error(), "no such file or directory")
}

// tokenTimeout bounds the write of one line to a process that is about to read it.
const tokenTimeout = 5 * time.Second

// deliverToken writes the line that the daemon waits for. A daemon that has it already does not read again; nothing is lost then. openProxy
// lets everybody reach the ports in the sandbox through the daemon, as everybody reaches what is published. In host mode these would be all
// ports of the node, also those that it offers to itself only.
func deliverToken(stdin types.HijackedResponse, token string, openProxy bool) error {
	line, err := json.Marshal(struct {
		Token     string `json:"token"`
		OpenProxy bool   `json:"open_proxy"`
	}{token, openProxy})
	if err != nil {
		return fmt.Errorf("encode the token: %w", err)
	}
	if err := stdin.Conn.SetWriteDeadline(time.Now().Add(tokenTimeout)); err != nil {
		return away(err)
	}
	if _, err := stdin.Conn.Write(append(line, '\n')); err != nil {
		return away(fmt.Errorf("deliver the token: %w", err))
	}
	return nil
}
