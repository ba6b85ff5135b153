package docker

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/go-connections/nat"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// daemonPort is where the daemon in each sandbox listens (OpenSandbox 1.1.1).
const daemonPort = sandbox.ExecdPort

// Inspect looks at the container with the name of the sandbox. One that is not ours is none.
func (e *Engine) Inspect(ctx context.Context, id sandbox.ID) (executor.Instance, error) {
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	c, err := e.api.ContainerInspect(ctx, containerName(id))
	if err != nil {
		return executor.Instance{}, classify("inspect", err)
	}
	return e.instance(c)
}

func (e *Engine) instance(c container.InspectResponse) (executor.Instance, error) {
	if c.ContainerJSONBase == nil || c.Config == nil || c.State == nil || !e.ours(c.Config.Labels) {
		return executor.Instance{}, fault.New(fault.NotFound, "no such sandbox on this engine")
	}
	in, err := parseLabels(c.Config.Labels)
	if err != nil {
		return in, fault.New(fault.NotFound, "the container's labels cannot be read").Because(err)
	}
	in.Phase = phase(c.State)
	in.ExitCode, in.OOMKilled = c.State.ExitCode, c.State.OOMKilled
	in.StartedAt, in.FinishedAt = engineTime(c.State.StartedAt), engineTime(c.State.FinishedAt)
	if in.Phase == executor.Created && !in.StartedAt.IsZero() {
		in.Phase = executor.Exited
	}
	if n := c.NetworkSettings; n != nil {
		in.Addresses = addresses(n)
		if !e.local {
			// On this machine it may be the address of another engine's container, with somebody else's sandbox in it.
			in.Addresses.ContainerIP = ""
		}
	}
	if h := c.HostConfig; h != nil && h.NetworkMode.IsHost() {
		in.Addresses = onHost(c.State.Running)
	}
	in.Image = c.Config.Image
	if h := c.HostConfig; h != nil {
		in.Limits = sandbox.Resources{CPU: h.NanoCPUs / 1e6, Memory: h.Memory}
		in.Published = tcp(h.PortBindings)
	}
	return in, nil
}

func phase(s *container.State) executor.Phase {
	switch {
	case s.Paused:
		return executor.Paused
	case s.Running, s.Restarting:
		return executor.Running
	case s.Status == container.StateRemoving:
		return executor.Removing
	case s.Status == container.StateCreated:
		return executor.Created
	}
	return executor.Exited
}

// engineTime parses the engine's times; its zero time is ours.
func engineTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1970 {
		return time.Time{}
	}
	return t
}

func addresses(n *container.NetworkSettings) sandbox.Addresses {
	a := sandbox.Addresses{ContainerIP: n.IPAddress} //nolint:staticcheck // the default bridge's address on engines of all versions
	for _, ep := range n.Networks {
		if a.ContainerIP == "" && ep != nil {
			a.ContainerIP = ep.IPAddress
		}
	}
	a.Ports = tcp(n.Ports)
	return a
}

// tcp returns the TCP ports of a container that are bound to one of the node, nil if there are none.
func tcp(ports nat.PortMap) map[int]int {
	var out map[int]int
	for port, bindings := range ports {
		for _, b := range bindings {
			if h, err := strconv.Atoi(b.HostPort); err == nil && port.Proto() == "tcp" {
				if out == nil {
					out = map[int]int{}
				}
				out[port.Int()] = h
			}
		}
	}
	return out
}

// List returns all our sandboxes. Details that the engine's list leaves out are looked up one by one, for those that have ended only. Who asks
// for it has the node: what an earlier process held for containers of it goes now.
func (e *Engine) List(ctx context.Context) ([]executor.Instance, error) {
	if err := e.pins.Sweep(); err != nil {
		e.cfg.Log.WarnContext(ctx, "cannot let go of what an earlier process was about to mount", "error", err)
	}
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	all, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: e.filter()})
	if err != nil {
		return nil, classify("list", err)
	}
	out := make([]executor.Instance, 0, len(all))
	for _, c := range all {
		if !e.ours(c.Labels) {
			continue
		}
		in, err := parseLabels(c.Labels)
		if err != nil {
			e.cfg.Log.WarnContext(ctx, "container with labels that cannot be read is left alone", "container", c.ID, "error", err)
			continue
		}
		switch c.State {
		case container.StateRunning, container.StateRestarting:
			in.Phase = executor.Running
		case container.StatePaused:
			in.Phase = executor.Paused
		default:
			in, err = e.Inspect(ctx, in.ID)
			if fault.Is(err, fault.NotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		out = append(out, in)
	}
	left, err := e.leftovers(ctx, all)
	return append(out, left...), err
}

func (e *Engine) filter() filters.Args {
	return filters.NewArgs(filters.Arg("label", labelInstallation+"="+e.cfg.Installation), filters.Arg("label", labelNode+"="+e.cfg.Node))
}

// probeTimeout bounds one question to a daemon. The address of a container that has ended does not answer at all.
const probeTimeout = 250 * time.Millisecond

func newProbes() *http.Client {
	return &http.Client{
		Timeout: probeTimeout, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Ready asks the daemon in the sandbox: at its own address with a local engine, else at its published port on the engine's host.
func (e *Engine) Ready(ctx context.Context, in executor.Instance) error {
	if err := e.introduce(in); err != nil {
		return fault.New(fault.Unavailable, "the sandbox's address cannot be set").Because(err)
	}
	host := in.Addresses.ContainerIP + ":" + strconv.Itoa(daemonPort)
	if !e.local || in.Addresses.ContainerIP == "" {
		host = e.engineHost() + ":" + strconv.Itoa(in.Addresses.Ports[daemonPort])
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/ping", nil)
	if err != nil {
		return fault.New(fault.Unavailable, "the sandbox has no address").Because(err)
	}
	res, err := e.probes.Do(req)
	if err != nil {
		return fault.New(fault.Unavailable, "the sandbox's daemon does not answer yet").Because(err)
	}
	_ = res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fault.New(fault.Unavailable, "the sandbox's daemon is not ready yet").Because(errors.New(res.Status))
	}
	return nil
}

// engineHost is where the engine's published ports are.
func (e *Engine) engineHost() string {
	if u, err := url.Parse(e.api.DaemonHost()); err == nil && !e.local && u.Hostname() != "" {
		return u.Hostname()
	}
	return "127.0.0.1"
}
