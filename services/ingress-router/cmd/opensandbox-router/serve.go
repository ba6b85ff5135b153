package main

import (
	"context"
	"io"

	"opensandbox/libs/lifecycle"
	"opensandbox/libs/process"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/settings"
	router "opensandbox/services/ingress-router/app"
)

// serve wires the parts by hand, from the ground up, and runs them until ctx ends.
func serve(ctx context.Context, s settings.Settings, lookup func(string) (string, bool), stderr io.Writer) error {
	p, err := process.Open(ctx, s, process.Options{Name: string(settings.ProcessRouter), Version: version, Stderr: stderr, Lookup: lookup})
	if err != nil {
		return err
	}
	defer p.Close(ctx)
	store, err := p.OpenRedis(ctx, sandbox.RecordTopic(""))
	if err != nil {
		return err
	}
	defer store.Close()
	measured, err := p.Measure(store)
	if err != nil {
		return err
	}
	renewals, closeRenewals, err := openRenewals(p)
	if err != nil {
		return err
	}
	defer closeRenewals()
	front, err := router.New(ctx, router.Config{
		Address: s.Router.Listen, KeepAlive: s.Server.KeepAlive, DrainDelay: s.Server.DrainDelay, Grace: s.Server.Grace,
		Backlog: s.Server.Backlog, RenewInterval: s.RenewIntent.MinInterval,
	}, router.Deps{
		Queries: measured, Hints: measured, Nodes: measured, Renewals: renewals,
		Registry: p.Registry, Tracers: p.Tracers, Log: p.Log,
	})
	if err != nil {
		return err
	}
	defer front.Close()
	var g lifecycle.Group
	if err := p.AddAdmin(ctx, &g, front.Ready); err != nil {
		return err
	}
	for _, part := range front.Parts() {
		g.Add(part.Name, part.Run)
	}
	p.Log.InfoContext(ctx, "serving", "address", front.Addr().String(), "installation", p.Installation.ID(), "version", version)
	return g.Run(ctx)
}

// openRenewals returns where notices go that sandboxes are in use; nil without renewals on access.
func openRenewals(p *process.Process) (router.Publisher, func(), error) {
	client, key, err := p.OpenRenewIntents()
	if client == nil || err != nil {
		return nil, func() {}, err
	}
	return router.RedisPublisher(client, key), func() { _ = client.Close() }, nil // every notice was published or given up before
}
