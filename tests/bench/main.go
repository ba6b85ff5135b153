// Command bench measures the server beside the raw engine, in one run, on this machine: how long it takes and how much of it works. It
// prints a table and keeps every sample. It never fails because something is slow.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	server := flags.String("server", "bin/opensandbox-server", "the server to measure")
	execd := flags.String("execd", "bin/opensandbox-execd", "the daemon of sandboxes to measure; beside it, with -amd64 and -arm64 at the end of the name, what its size is taken of")
	out := flags.String("out", "bench-results", "folder for samples and report")
	only := flags.String("only", "", "comma-separated sections: create, burst, reads, deadlines, commands, files, reference, redis, redis-deadlines, redis-creates, split, start, proxy, execd or its parts execd-commands, execd-streams, execd-files, execd-search, execd-terminals, execd-start")
	serve := flags.String("serve", "", "serve files at this address instead; used inside a sandbox")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *serve != "" {
		return serveFiles(*serve)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b, err := newBench(ctx, *server, *execd, *out)
	if err != nil {
		return err
	}
	defer b.close()
	for _, s := range b.sections() {
		if chosen := strings.Split(*only, ","); *only != "" && !slices.Contains(chosen, s.name) && !slices.Contains(chosen, s.partOf) {
			continue
		}
		fmt.Fprintf(os.Stderr, "== %s\n", s.name)
		if b.server == nil && !s.alone {
			if err := b.start(); err != nil {
				return err
			}
		}
		if err := s.run(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return b.report()
}

// section is one part of a run.
type section struct {
	name string
	run  func() error
	// partOf is a name for several sections.
	partOf string
	// alone says that the section needs no server, which would only take time from what is measured.
	alone bool
}

// sections come in the order in which they run: those without a server are first.
func (b *bench) sections() []section {
	list := []section{
		{name: "execd-commands", run: b.withDaemon(b.daemonRoundTrips)}, {name: "execd-streams", run: b.withDaemon(b.daemonStreams)},
		{name: "execd-files", run: b.withDaemon(b.daemonFiles)}, {name: "execd-search", run: b.withDaemon(b.daemonSearch)},
		{name: "execd-terminals", run: b.withDaemon(b.daemonTerminals)}, {name: "execd-start", run: b.daemonStart},
	}
	for i := range list {
		list[i].partOf, list[i].alone = "execd", true
	}
	return append(list, []section{
		{name: "create", run: b.creates}, {name: "burst", run: b.burst}, {name: "reads", run: b.reads}, {name: "deadlines", run: b.deadlines},
		{name: "commands", run: b.commands}, {name: "files", run: b.files}, {name: "reference", run: b.reference},
		{name: "redis", run: b.fleetReads}, {name: "redis-deadlines", run: b.fleetDeadlines}, {name: "redis-creates", run: b.fleetCreates},
		{name: "split", run: b.fleetSplit}, {name: "start", run: b.startups}, {name: "proxy", run: b.proxies},
	}...)
}
