package redisstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"opensandbox/libs/fault"
)

// Mode says what stands behind the addresses of a ClientConfig.
type Mode string

// The modes.
const (
	ModeSingle   Mode = "single"
	ModeSentinel Mode = "sentinel"
	ModeCluster  Mode = "cluster"
)

// ClientConfig is how to reach a Redis.
type ClientConfig struct {
	Mode Mode
	// Addrs are host:port: one server, the sentinels, or some nodes of a cluster.
	Addrs []string
	// MasterName is what the sentinels call the group of servers; only for ModeSentinel.
	MasterName string
	// User and Password are for the data servers. An empty User is the default user; an empty Password means that none is sent.
	User, Password string
	// DB is the number of the database; 0 with ModeCluster.
	DB int
	// TLS is used for all servers, sentinels too. Roots are the authorities that may have signed their certificates; nil means those of
	// the system.
	TLS   bool
	Roots *x509.CertPool
	// Name is shown by CLIENT LIST. Characters that Redis does not take become hyphens.
	Name string
}

// Bounds of a connection. A server that hangs is noticed after answerWithin, one that is gone at once.
const (
	dialWithin   = time.Second
	answerWithin = time.Second
	// poolSize is more than the calls that a process makes at a time: each waits for its answer, and the server does one thing after the
	// other, so more connections would bring nothing.
	poolSize = 128
	idleSize = 4
	// retries is how often the client sends a call anew when the connection broke or the server says that it is not ready. What it repeats
	// may have been done already. That is safe for everything that a Store sends: reads; insert.lua and save.lua, which know their own call
	// by its name and answer as they did; renew.lua, accept.lua, mirrored.lua and purge.lua, which come to the same when they run twice.
	retries      = 2
	retryPause   = 10 * time.Millisecond
	retryPauseTo = 200 * time.Millisecond
)

// NewClient returns a client with bounds that suit a Store; whoever uses it for other writes has to know that calls are sent anew when
// an answer is lost. It connects when it is first used, and again whenever it has to. fault.Invalid for a configuration that cannot work.
func NewClient(cfg ClientConfig) (redis.UniversalClient, error) {
	o := &redis.UniversalOptions{
		Addrs: cfg.Addrs, MasterName: cfg.MasterName, Username: cfg.User, Password: cfg.Password, DB: cfg.DB, ClientName: clientName(cfg.Name),
		// Version 2 of the protocol: nothing here needs the push messages of version 3.
		Protocol:    2,
		DialTimeout: dialWithin, DialerRetries: 1, ReadTimeout: answerWithin, WriteTimeout: answerWithin, ContextTimeoutEnabled: true,
		PoolSize: poolSize, MinIdleConns: idleSize, PoolTimeout: answerWithin, PipelinePoolSize: -1,
		MaxRetries: retries, MaxRedirects: retries + 1, MinRetryBackoff: retryPause, MaxRetryBackoff: retryPauseTo,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if cfg.TLS {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots}
	}
	if len(cfg.Addrs) == 0 {
		return nil, fault.New(fault.Invalid, "the address of the Redis server is missing")
	}
	switch cfg.Mode {
	case ModeSingle:
		return redis.NewClient(o.Simple()), nil
	case ModeSentinel:
		if cfg.MasterName == "" {
			return nil, fault.New(fault.Invalid, "the name that the sentinels know the Redis servers by is missing")
		}
		return redis.NewFailoverClient(o.Failover()), nil
	case ModeCluster:
		if cfg.DB != 0 {
			return nil, fault.New(fault.Invalid, "a Redis Cluster has database 0 only")
		}
		// The cluster's own loop sends calls anew; inside it each is sent once.
		o.MaxRetries = -1
		c := redis.NewClusterClient(o.Cluster())
		c.AddHook(follow{c})
		return c, nil
	}
	return nil, fault.Newf(fault.Invalid, "unknown mode %q of Redis: expected single, sentinel or cluster", cfg.Mode)
}

// clientName is a name that CLIENT SETNAME takes: no blanks, line breaks or special characters.
func clientName(name string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '-'
		}
		return r
	}, name)
}

// LogTo makes the client library tell of broken connections in log, at level debug: the store itself says what matters. The library knows
// one log for the whole process and writes to stderr without it, so call this once, before the first client is made.
func LogTo(log *slog.Logger) { redis.SetLogger(library{log}) }

// library is the log of the client library.
type library struct{ log *slog.Logger }

func (l library) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis client: "+fmt.Sprintf(format, v...))
}

// follow is a hook that makes the client of a cluster ask anew who the masters are when one does not answer. By itself it does so when a
// server says that it is no master, and else once a minute.
type follow struct{ cluster *redis.ClusterClient }

var _ redis.Hook = follow{}

func (follow) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f follow) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		f.after(ctx, err)
		return err
	}
}

func (f follow) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		f.after(ctx, err)
		return err
	}
}

func (f follow) after(ctx context.Context, err error) {
	if _, answered := errors.AsType[redis.Error](err); err == nil || ctx.Err() != nil || (answered && !redis.HasErrorPrefix(err, "CLUSTERDOWN")) {
		return
	}
	f.cluster.ReloadState(ctx)
}

// callWithin bounds a call with all that the client does for it, such as finding the new master or sending it anew.
const callWithin = 2 * time.Second

// errNoAnswer is why a call was given up after callWithin. It is no error of a context: the caller still has time.
var errNoAnswer = fmt.Errorf("no answer within %s", callWithin)

// limit is a hook that bounds each call and each pipeline.
type limit struct{}

var _ redis.Hook = limit{}

func (limit) DialHook(next redis.DialHook) redis.DialHook { return next }

func (limit) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		bounded, cancel := context.WithTimeout(ctx, callWithin)
		defer cancel()
		err := next(bounded, cmd)
		if late(ctx, err) {
			cmd.SetErr(errNoAnswer)
			return errNoAnswer
		}
		return err
	}
}

func (limit) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		bounded, cancel := context.WithTimeout(ctx, callWithin)
		defer cancel()
		err := next(bounded, cmds)
		for _, cmd := range cmds {
			if late(ctx, cmd.Err()) {
				cmd.SetErr(errNoAnswer)
			}
		}
		if late(ctx, err) {
			return errNoAnswer
		}
		return err
	}
}

// late reports whether err comes from the bound and not from the caller's context.
func late(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded)
}
