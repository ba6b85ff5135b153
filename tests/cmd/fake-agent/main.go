// Command fake-agent is the real agent on an engine in memory, so that benchmarks measure the control plane and not an engine.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/installation"
	"opensandbox/libs/lifecycle"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/sandbox"
	agent "opensandbox/services/runtime-agent/app"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fake-agent:", err)
		os.Exit(1)
	}
}

func run() error {
	redis := flag.String("redis", "127.0.0.1:6379", "where the store is")
	secret := flag.String("secret", "", "the shared secret of the installation")
	state := flag.String("state", "", "the state directory")
	name := flag.String("node", "fake", "the name of the node")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	inst, err := installation.Shared("", *secret)
	if err != nil {
		return err
	}
	client, err := redisstore.NewClient(redisstore.ClientConfig{Mode: "single", Addrs: []string{*redis}, Name: "fake-agent"})
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := redisstore.Open(ctx, redisstore.Config{Client: client, Installation: inst.ID(), Fingerprint: inst.Fingerprint(),
		Topics: []sandbox.Topic{sandbox.WorkTopic(*name), sandbox.TopicRollCall}, Log: log})
	if err != nil {
		return err
	}
	defer store.Close()
	// An engine in memory gets no slower with more calls at once, so the bound that spares real ones is lifted.
	a, err := agent.Start(ctx, agent.Config{
		Concurrency: 64, Node: *name, StateDir: *state, Host: "127.0.0.1", PortMin: 1024, PortMax: 65535, RetainFailed: time.Hour, NodeLostAfter: 10 * time.Minute,
	}, agent.Deps{Store: store, Executor: fakeexec.New("engine of "+*name, time.Now), Token: inst.Token, Log: log})
	if err != nil {
		return err
	}
	defer a.Close()
	var g lifecycle.Group
	for _, p := range a.Parts() {
		g.Add(p.Name, p.Run)
	}
	return g.Run(ctx)
}
