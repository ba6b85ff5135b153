// Package process is what every program of the platform has around its parts: telemetry, the installation that it belongs to, the shared
// store, and the listener for operators. Main functions call it; nothing else does.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/httpx"
	"opensandbox/libs/installation"
	"opensandbox/libs/lifecycle"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/settings"
	"opensandbox/libs/storemetrics"
	"opensandbox/libs/telemetry"
)

// Process is one running program. Use Open.
type Process struct {
	telemetry.Telemetry
	Settings settings.Settings
	// Installation has no key in a process that was given none, because it neither makes nor checks tokens.
	Installation installation.Installation
	// Access takes one line for each request; nil unless the log goes to files.
	Access *slog.Logger

	files logFiles
}

// Options are what surrounds a process.
type Options struct {
	// Name is that of the program in traces and logs.
	Name, Version string
	Stderr        io.Writer
	// Lookup returns an environment variable, as os.LookupEnv does.
	Lookup func(name string) (string, bool)
}

// Open builds telemetry and installation from the settings, and logs their warnings. Close must be called.
func Open(ctx context.Context, s settings.Settings, o Options) (*Process, error) {
	inst, err := open(s)
	if err != nil {
		return nil, err
	}
	files, err := openLogs(s, o.Stderr)
	if err != nil {
		return nil, err
	}
	t, err := telemetry.New(ctx, telemetry.Config{
		Service: o.Name, Version: o.Version, LogTo: files.log, Level: s.Log.Level, Format: s.Log.Format, Origin: origin(), Lookup: o.Lookup,
	})
	if err != nil {
		files.close()
		return nil, err
	}
	access, err := files.access(s)
	if err != nil {
		files.close()
		return nil, err
	}
	// The Redis client has one logger for the whole process, which would write plain text to standard error.
	redisstore.LogTo(t.Log)
	for _, w := range s.Warnings {
		t.Log.WarnContext(ctx, w)
	}
	files.follow(t.Log)
	return &Process{Telemetry: t, Settings: s, Installation: inst, Access: access, files: files}, nil
}

// origin tells what log lines belong to: the request that is being answered, or the one that the work on a record is for.
func origin() telemetry.Origin {
	return telemetry.Origin{
		Request: func(ctx context.Context) string {
			if id := httpx.RequestID(ctx); id != "" {
				return id
			}
			return sandbox.OriginOf(ctx).Request
		},
		Trace: func(ctx context.Context) string { return sandbox.OriginOf(ctx).Trace },
	}
}

// open returns the installation: that of the shared secret where processes share a store, else the one in the data directory.
func open(s settings.Settings) (installation.Installation, error) {
	if s.Store.Type == settings.StoreRedis {
		return installation.Shared(s.Server.Installation, s.Internal.SharedSecret.Reveal())
	}
	return installation.Open(filepath.Dir(s.Store.Path), s.Store.Path, s.Server.Installation)
}

// Close sends what telemetry still holds back, and closes the log files.
func (p *Process) Close(ctx context.Context) {
	if err := p.Shutdown(ctx); err != nil {
		p.Log.WarnContext(ctx, "telemetry was not ended in order", "error", err)
	}
	p.files.close()
}

// client connects to a Redis under a name that its list of clients shows.
func (p *Process) client(u settings.RedisURL, name string) (redis.UniversalClient, error) {
	return redisstore.NewClient(redisstore.ClientConfig{
		Mode: redisstore.Mode(u.Mode), Addrs: u.Addrs, MasterName: u.MasterName, User: u.User, Password: u.Password.Reveal(), DB: u.DB, TLS: u.TLS, Name: name,
	})
}

// OpenRenewIntents connects to the list of notices that sandboxes are in use: the one of renew_intent.redis, which other gateways may write
// too, else one beside the records on Redis. It has a client of its own, which the caller closes: a store that is busy must not hold up the
// notices, nor they the store. client is nil if there is no list: renewals on access are off, or stay within this process.
func (p *Process) OpenRenewIntents() (client redis.UniversalClient, key string, err error) {
	s := p.Settings
	where, key := s.Store.Redis, redisstore.RenewIntentsKey(p.Installation.ID())
	switch {
	case !s.RenewIntent.Enabled:
		return nil, "", nil
	case s.RenewIntent.Queue.Enabled:
		where, key = s.RenewIntent.Queue.Redis, s.RenewIntent.Queue.Key
	case s.Store.Type != settings.StoreRedis:
		return nil, "", nil
	}
	client, err = p.client(where, s.ProcessName()+"-renew-intents")
	return client, key, err
}

// OpenRedis connects to the store that the settings name. It waits for it as long as ctx allows. topics are those that the process
// subscribes to; see redisstore.Config.
func (p *Process) OpenRedis(ctx context.Context, topics ...sandbox.Topic) (*redisstore.Store, error) {
	client, err := p.client(p.Settings.Store.Redis, p.Settings.ProcessName())
	if err != nil {
		return nil, err
	}
	return redisstore.Open(ctx, redisstore.Config{
		Client: client, Installation: p.Installation.ID(), Fingerprint: p.Installation.Fingerprint(), Durable: p.Settings.Store.Durable, Topics: topics, Log: p.Log,
	})
}

// Measure returns a store whose calls are measured and traced.
func (p *Process) Measure(store storemetrics.Both) (storemetrics.Store, error) {
	store, err := p.sabotaged(store)
	if err != nil {
		return storemetrics.Store{}, err
	}
	return storemetrics.New(store, p.Registry, p.Tracers)
}

// AddAdmin adds the listener for operators, with metrics, health and readiness, unless it is switched off. If the default port is taken, as
// it is beside another server, a free one is used.
func (p *Process) AddAdmin(ctx context.Context, g *lifecycle.Group, ready func() error) error {
	s := p.Settings.Server
	if s.AdminListen == "" {
		return nil
	}
	cfg := httpx.Config{Address: s.AdminListen, KeepAlive: s.KeepAlive, Grace: time.Second, Backlog: s.Backlog}
	admin, err := httpx.Listen(ctx, cfg)
	if errors.Is(err, syscall.EADDRINUSE) && p.Settings.Origin("server.admin_listen") == "default" {
		cfg.Address = "127.0.0.1:0"
		if admin, err = httpx.Listen(ctx, cfg); err == nil {
			p.Log.WarnContext(ctx, "the default admin port is taken; using another", "taken", s.AdminListen, "address", admin.Addr().String())
		}
	}
	if err != nil {
		return fmt.Errorf("server.admin_listen: %w", err)
	}
	handler := telemetry.Admin(p.Registry, ready)
	g.Add("admin", func(ctx context.Context) error { return admin.Run(ctx, handler) })
	return nil
}
