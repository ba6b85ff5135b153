package docker

import (
	"context"
	"net"

	"github.com/docker/docker/api/types/network"
	"github.com/vishvananda/netlink"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
)

// defaultBridge is the interface of the engine's default network unless the engine says otherwise.
const defaultBridge = "docker0"

// findBridge notes the interface of the engine's bridge.
func (e *Engine) findBridge(ctx context.Context) error {
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	n, err := e.api.NetworkInspect(ctx, "bridge", network.InspectOptions{})
	if err != nil {
		return classify("inspect the engine's bridge", err)
	}
	return e.useBridge(n)
}

// introduce tells this machine's neighbour table (ARP) which hardware address an instance has. Engines give an address that has become
// free to the next container at once, and with hardware addresses of our own the table would send its frames to the one before, for up
// to half a minute.
func (e *Engine) introduce(in executor.Instance) error {
	if !e.hardware || in.Addresses.ContainerIP == "" {
		return nil
	}
	if n, ok := e.introduced.Load(in.ID); ok && n.(*netlink.Neigh).IP.Equal(net.ParseIP(in.Addresses.ContainerIP)) {
		return nil
	}
	mac, err := net.ParseMAC(hardwareAddress(in.Addresses.Ports))
	if err != nil {
		return nil // no published ports: the engine chose the address
	}
	n := &netlink.Neigh{LinkIndex: e.bridge, Family: netlink.FAMILY_V4, State: netlink.NUD_STALE, IP: net.ParseIP(in.Addresses.ContainerIP), HardwareAddr: mac}
	if err := netlink.NeighSet(n); err != nil {
		return err
	}
	e.introduced.Store(in.ID, n)
	return nil
}

// dismiss takes back what introduce has set, so that the next container with that address, which may be anybody's, is found at once.
func (e *Engine) dismiss(id sandbox.ID) {
	if n, ok := e.introduced.LoadAndDelete(id); ok {
		_ = netlink.NeighDel(n.(*netlink.Neigh)) // gone by itself, or replaced: as good
	}
}
