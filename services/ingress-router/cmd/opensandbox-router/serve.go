package main

import (
	"context"
	"io"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/lifecycle"
	"opensandbox/libs/process"
	"opensandbox/libs/redisstore"
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
	store, err := p.OpenRedis(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	measured, err := p.Measure(store)
	if err != nil {
		return err
	}
	renewals, err := openRenewals(s, p.Installation.ID())
	if err != nil {
		return err
	}
	defer renewals.close()
	front, err := router.New(ctx, router.Config{
		Address: s.Router.Listen, KeepAlive: s.Server.KeepAlive, DrainDelay: s.Server.DrainDelay, Grace: s.Server.Grace,
		RenewInterval: s.RenewIntent.MinInterval,
	}, router.Deps{
		Queries: measured, Hints: measured, Nodes: measured, Renewals: renewals.publisher,
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

// renewals is where notices go that sandboxes are in use.
type renewals struct {
	// publisher is nil if there is no such place.
	publisher router.Publisher
	client    redis.UniversalClient
}

// openRenewals returns the list of renew_intent.redis, which other gateways may write too, else one beside the records. It has a client
// of its own: a store that is busy must not hold up the notices, nor they the store.
func openRenewals(s settings.Settings, installation string) (renewals, error) {
	if !s.RenewIntent.Enabled {
		return renewals{}, nil
	}
	where, key := s.Store.Redis, redisstore.RenewIntentsKey(installation)
	if q := s.RenewIntent.Queue; q.Enabled {
		where, key = q.Redis, q.Key
	}
	client, err := redisstore.NewClient(redisstore.ClientConfig{
		Mode: redisstore.Mode(where.Mode), Addrs: where.Addrs, MasterName: where.MasterName, User: where.User, Password: where.Password.Reveal(),
		DB: where.DB, TLS: where.TLS, Name: s.ProcessName() + "-renewals",
	})
	if err != nil {
		return renewals{}, err
	}
	return renewals{publisher: router.RedisPublisher(client, key), client: client}, nil
}

func (r renewals) close() {
	if r.client != nil {
		_ = r.client.Close() // every notice was published or given up before
	}
}
