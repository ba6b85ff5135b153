package docker

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Modes of the network that are no name of one.
const (
	bridgeMode = "bridge"
	hostMode   = "host"
)

// chooseNetwork finds the network that sandboxes get, and keeps them apart on it as well as it can.
func (e *Engine) chooseNetwork(ctx context.Context) error {
	switch mode := e.cfg.NetworkMode; {
	case mode == "" || mode == bridgeMode || mode == "default":
		return e.separate(ctx)
	case mode == hostMode:
		e.network = hostMode
		e.cfg.Log.WarnContext(ctx, `docker.network_mode is "host": a sandbox uses the network of the node, reaches all that the node reaches, and is the only one at a time`)
		return nil
	case mode == "none" || strings.HasPrefix(mode, "container:"):
		return fmt.Errorf("docker.network_mode: sandboxes cannot be reached with %q; expected bridge, host or the name of a network", mode)
	default:
		return e.joinNamed(ctx, mode)
	}
}

// joinNamed takes a network that the operator has made.
func (e *Engine) joinNamed(ctx context.Context, name string) error {
	bounded, cancel := e.bounded(ctx)
	defer cancel()
	n, err := e.api.NetworkInspect(bounded, name, network.InspectOptions{})
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("docker.network_mode: the engine has no network %q; make it with docker network create, or choose bridge or host", name)
	}
	if err != nil {
		return classify("inspect the network", err)
	}
	e.network = name
	if n.Driver != "bridge" || !e.local {
		e.cfg.Log.WarnContext(ctx, "sandboxes may reach each other on this network: it is no bridge of this machine", "network", name, "driver", n.Driver)
		return nil
	}
	err = ensureRule()
	if err == nil {
		err = e.useBridge(n)
	}
	switch {
	case err == nil:
		e.hardware = true
	case n.Options["com.docker.network.bridge.enable_icc"] != "false":
		e.cfg.Log.WarnContext(ctx, "sandboxes may reach each other on this network: cannot set a rule, and the network was made without com.docker.network.bridge.enable_icc=false",
			"network", name, "error", err)
	}
	return nil
}

// useBridge notes the interface of a bridge.
func (e *Engine) useBridge(n network.Inspect) error {
	name := n.Options["com.docker.network.bridge.name"]
	switch {
	case name != "":
	case n.Name == bridgeMode:
		name = defaultBridge
	case len(n.ID) >= 12:
		name = "br-" + n.ID[:12] // as the engine calls it
	}
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("the engine's bridge %s: %w", name, err)
	}
	e.bridge = iface.Index
	return nil
}

// onHost is where a sandbox in host mode is reached: its ports are those of the node.
func onHost(running bool) sandbox.Addresses {
	a := sandbox.Addresses{OnHost: true, Ports: map[int]int{sandbox.ExecdPort: sandbox.ExecdPort, sandbox.AppPort: sandbox.AppPort}}
	if running {
		a.ContainerIP = "127.0.0.1"
	}
	return a
}

// hostProbe bounds the look whether the daemon's port of the node is free.
const hostProbe = time.Second

// checkHost makes sure that no other sandbox has the network of the node. The caller holds e.hostTurn until the container is made.
func (e *Engine) checkHost(ctx context.Context, id sandbox.ID) error {
	all, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: e.filter()})
	if err != nil {
		return classify("list", err)
	}
	for _, c := range all {
		ended := c.State == container.StateExited || c.State == container.StateDead
		switch {
		case !e.ours(c.Labels):
		case c.Labels[labelID] == string(id):
			return nil // made before; the engine will say so
		case !ended:
			return errHostInUse("another sandbox")
		}
	}
	dialer := net.Dialer{Timeout: hostProbe}
	address := net.JoinHostPort(e.engineHost(), strconv.Itoa(sandbox.ExecdPort))
	if conn, err := dialer.DialContext(ctx, "tcp4", address); err == nil {
		_ = conn.Close() // nothing was sent
		return errHostInUse("something else that listens on port " + strconv.Itoa(sandbox.ExecdPort))
	}
	return nil
}

func errHostInUse(who string) error {
	return fault.Newf(fault.Unavailable, `with docker.network_mode = "host" a node runs one sandbox at a time, and %s has its network; delete it, or let the operator set docker.network_mode to "bridge"`, who).
		WithCode(executor.CodeHostNetwork)
}
