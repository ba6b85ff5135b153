package docker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// macPrefix begins the hardware address of every sandbox. The second bit of its first byte marks it as locally administered (IEEE 802).
var macPrefix = [2]byte{0x06, 0x0b}

const (
	ruleTable = "opensandbox"
	ruleChain = "forward"
	// ownNetwork is the network for engines whose bridge we may not touch.
	ownNetwork = "opensandbox-isolated"
)

// separate makes sure that sandboxes reach neither each other nor other containers of the engine: by one rule on the engine's own bridge
// where we may set it, else by a network without communication between its members, which costs each create more.
func (e *Engine) separate(ctx context.Context) error {
	if e.local {
		err := ensureRule()
		if err == nil {
			err = e.findBridge(ctx)
		}
		if err == nil {
			e.network, e.hardware = "bridge", true
			e.cfg.Log.InfoContext(ctx, "sandboxes are cut off from each other by a rule on the engine's bridge", "table", "bridge "+ruleTable)
			return nil
		}
		e.cfg.Log.WarnContext(ctx, "cannot set a rule on the engine's bridge; using a network of our own, which makes creates slower", "error", err)
	}
	var err error
	e.network, err = e.ensureNetwork(ctx)
	return err
}

// ensureRule sets the rule that drops frames between bridge ports from sandboxes: their own frames to anybody, and anybody's to them. It
// replaces what an earlier version may have set, in one transaction, so that there is no moment without it.
func ensureRule() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyBridge, Name: ruleTable}
	c.AddTable(table) // so that the deletion of what may not exist succeeds
	c.DelTable(table)
	table = c.AddTable(table)
	accept := nftables.ChainPolicyAccept
	chain := c.AddChain(&nftables.Chain{
		Name: ruleChain, Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
		Priority: nftables.ChainPriorityRef(0), Policy: &accept,
	})
	for _, offset := range []uint32{etherDestination, etherSource} {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: offset, Len: uint32(len(macPrefix))},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: macPrefix[:]},
			&expr.Counter{},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("set the rule: %w", err)
	}
	return nil
}

// Where the addresses are in an Ethernet header (IEEE 802.3).
const (
	etherDestination = 0
	etherSource      = 6
)

// ensureNetwork makes the network for sandboxes if it is missing, and returns its id. It is shared by all installations on the engine: it
// holds nothing of any. An engine takes the same name from two callers at once; then the older one counts, for all who look.
func (e *Engine) ensureNetwork(ctx context.Context) (id string, err error) {
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	all, err := e.ownNetworks(ctx)
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		_, err = e.api.NetworkCreate(ctx, ownNetwork, network.CreateOptions{
			Driver: "bridge", Labels: map[string]string{labelRole: "network"},
			Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"},
		})
		if err != nil && !errdefs.IsConflict(err) && !strings.Contains(err.Error(), "already exists") {
			return "", classify("create the network for sandboxes", err)
		}
		if all, err = e.ownNetworks(ctx); err != nil {
			return "", err
		}
	}
	if len(all) == 0 {
		return "", fmt.Errorf("the network for sandboxes, %s, was removed as soon as it was made", ownNetwork)
	}
	for _, extra := range all[1:] {
		// One that is in use stays, and does no harm.
		_ = e.api.NetworkRemove(ctx, extra.ID)
	}
	return all[0].ID, nil
}

// ownNetworks returns the networks with our name, the oldest first.
func (e *Engine) ownNetworks(ctx context.Context) ([]network.Summary, error) {
	all, err := e.api.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("name", "^"+ownNetwork+"$"))})
	if err != nil {
		return nil, classify("list networks", err)
	}
	slices.SortFunc(all, func(a, b network.Summary) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return all, nil
}
