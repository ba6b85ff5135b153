// Command bench measures the server beside the raw engine, in one run, on this machine: how long it takes and how much of it works. It
// prints a table and keeps every sample. It never fails because something is slow.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
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
	out := flags.String("out", "bench-results", "folder for samples and report")
	only := flags.String("only", "", "comma-separated sections: create, burst, reads, deadlines, commands, files, reference, redis, redis-deadlines, redis-creates, split, start, proxy")
	serve := flags.String("serve", "", "serve files at this address instead; used inside a sandbox")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *serve != "" {
		return serveFiles(*serve)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	binary, err := filepath.Abs(*server)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, binary, *out)
	if err != nil {
		return err
	}
	defer b.close()
	for _, s := range []struct {
		name string
		run  func() error
	}{{"create", b.creates}, {"burst", b.burst}, {"reads", b.reads}, {"deadlines", b.deadlines}, {"commands", b.commands}, {"files", b.files}, {"reference", b.reference},
		{"redis", b.fleetReads}, {"redis-deadlines", b.fleetDeadlines}, {"redis-creates", b.fleetCreates}, {"split", b.fleetSplit}, {"start", b.startups}, {"proxy", b.proxies}} {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), s.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "== %s\n", s.name)
		if err := s.run(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return b.report()
}
