package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"opensandbox/libs/cli"
	"opensandbox/libs/node"
	"opensandbox/libs/process"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/settings"
)

// registry is what the commands need of the store.
type registry interface {
	node.Registry
	OnNode(ctx context.Context, node string) ([]sandbox.Record, error)
	Now(ctx context.Context) (time.Time, error)
}

// commandTimeout bounds a command, so that it does not wait for ever for a store that is away.
const commandTimeout = 15 * time.Second

// withStore runs a command on the shared store.
func withStore(do func(context.Context, registry, settings.Settings, cli.Call) error) func(context.Context, settings.Settings, cli.Call) error {
	return func(ctx context.Context, s settings.Settings, c cli.Call) error {
		ctx, cancel := context.WithTimeout(ctx, commandTimeout)
		defer cancel()
		p, err := process.Open(ctx, s, process.Options{Name: s.ProcessName(), Version: version, Stderr: c.Stderr, Lookup: os.LookupEnv})
		if err != nil {
			return err
		}
		defer p.Close(ctx)
		store, err := p.OpenRedis(ctx, sandbox.TopicPlacement)
		if err != nil {
			return err
		}
		defer store.Close()
		return do(ctx, store, s, c)
	}
}

// drain returns the command that stops or allows placement on a node.
func drain(on bool) func(context.Context, registry, settings.Settings, cli.Call) error {
	return func(ctx context.Context, st registry, s settings.Settings, c cli.Call) error {
		name := named(s, c)
		if err := st.SetDraining(ctx, name, on); err != nil {
			return err
		}
		if !on {
			return say(c.Stdout, "node %s gets new sandboxes again\n", name)
		}
		records, err := st.OnNode(ctx, name)
		if err != nil {
			return err
		}
		return say(c.Stdout, "node %s gets no new sandboxes; it has %d, which stay until they end\n", name, len(records))
	}
}

// remove gives up a node. Without --yes it only says what that would mean.
func remove(ctx context.Context, st registry, s settings.Settings, c cli.Call) error {
	name := named(s, c)
	n, err := find(ctx, st, name)
	if err != nil {
		return err
	}
	records, err := st.OnNode(ctx, name)
	if err != nil {
		return err
	}
	now, err := st.Now(ctx)
	if err != nil {
		return err
	}
	if !c.Yes {
		live := ""
		if n.Live(now) {
			live = " Its agent is alive: it stops them and ends."
		}
		return cli.Misused(fmt.Sprintf("remove gives up the %d sandboxes of node %s at once: they are Failed (NODE_LOST), "+
			"or made anew elsewhere if they were created so.%s Repeat with --yes to do it", len(records), name, live))
	}
	if err := st.Remove(ctx, name); err != nil {
		return err
	}
	return say(c.Stdout, "node %s is removed; its %d sandboxes are given up. An agent that is started under this name makes it an ordinary node again\n",
		name, len(records))
}

// list prints a table of all nodes.
func list(ctx context.Context, st registry, _ settings.Settings, c cli.Call) error {
	all, err := st.Nodes(ctx)
	if err != nil {
		return err
	}
	now, err := st.Now(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSTATE\tSANDBOXES\tCPU\tMEMORY\tPLATFORM\tRUNTIMES\tHOST\tLABELS")
	for i := range all {
		n := &all[i]
		records, err := st.OnNode(ctx, n.Name)
		if err != nil {
			return err
		}
		var used sandbox.Resources
		for j := range records {
			if records[j].HoldsReservation() {
				used.CPU += records[j].Placement.Reserved.CPU
				used.Memory += records[j].Placement.Reserved.Memory
			}
		}
		fmt.Fprintln(w, strings.Join([]string{
			n.Name, state(n, now), of(strconv.Itoa(len(records)), int64(n.MaxSandboxes), strconv.Itoa(n.MaxSandboxes)),
			of(cores(used.CPU), n.Capacity.CPU, cores(n.Capacity.CPU)), of(gib(used.Memory), n.Capacity.Memory, gib(n.Capacity.Memory)),
			orDash(n.Platform), orDash(strings.Join(n.Runtimes, ",")), orDash(n.Host), orDash(labels(n.Labels)),
		}, "\t"))
	}
	return w.Flush()
}

// state says in a word, or two, whether a node gets sandboxes.
func state(n *node.Node, now time.Time) string {
	s := "ready"
	switch {
	case n.Removed:
		return "removed"
	case !n.Live(now):
		s = "unreachable"
	case n.Draining:
		return "draining"
	}
	if n.Draining {
		s += ",draining"
	}
	return s
}

// of shows an amount with its bound, if there is one.
func of(used string, bound int64, shown string) string {
	if bound == 0 {
		return used
	}
	return used + "/" + shown
}

func cores(milli int64) string { return strconv.FormatFloat(float64(milli)/1000, 'f', -1, 64) }

func gib(bytes int64) string {
	if bytes == 0 {
		return "0"
	}
	return strconv.FormatFloat(float64(bytes)/(1<<30), 'f', 1, 64) + "Gi"
}

func labels(l map[string]string) string {
	out := make([]string, 0, len(l))
	for k, v := range l {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func find(ctx context.Context, st registry, name string) (node.Node, error) {
	all, err := st.Nodes(ctx)
	if err != nil {
		return node.Node{}, err
	}
	i := slices.IndexFunc(all, func(n node.Node) bool { return n.Name == name })
	if i < 0 {
		return node.Node{}, fmt.Errorf("node %q is not registered; opensandbox-agent nodes lists all", name)
	}
	return all[i], nil
}

// named is the node that a command is about: this one unless another is named.
func named(s settings.Settings, c cli.Call) string {
	if c.Operand != "" {
		return c.Operand
	}
	return s.Agent.Node
}

func say(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintf(w, format, args...)
	return err
}
