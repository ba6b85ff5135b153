package settings

import (
	"errors"
	"fmt"

	"opensandbox/libs/conf"
)

// acceptedKeys are keys of OpenSandbox 1.1.1 that mean nothing to this server. Their values are checked all the same: a mistake in a file
// that goes back to the other server one day is worth a word.
func acceptedKeys() []conf.Key {
	var threads, smallest, largest int
	var loop, parser, dsn string
	var connect, wait, recovery float64
	table := []conf.Key{
		conf.Int("server.thread_pool_size", &threads, 1, 1<<20).Warn(nothing),
		conf.Enum("server.loop", &loop, "auto", "uvloop", "asyncio").Warn(nothing),
		conf.Enum("server.http", &parser, "auto", "httptools", "h11").Warn(nothing),
		conf.String("store.postgresql.dsn", &dsn, nil).Conceal().Warn(noPostgres),
		conf.Int("store.postgresql.min_pool_size", &smallest, 0, 1<<20).Warn(noPostgres),
		conf.Int("store.postgresql.max_pool_size", &largest, 1, 1<<20).Warn(noPostgres),
		conf.Float("store.postgresql.connect_timeout_seconds", &connect, 1, false).Warn(noPostgres),
		conf.Float("store.postgresql.pool_timeout_seconds", &wait, 0, true).Warn(noPostgres),
		conf.Float("store.postgresql.snapshot_recovery_interval_seconds", &recovery, 0, true).Warn(noPostgres),
	}
	for i := range table {
		table[i].Get = nil
	}
	return table
}

const noPostgres = `has no effect: store.type is "sqlite" or "redis"`

// meaningless are variables that OpenSandbox 1.1.1 reads and this server does not, with the reason.
var meaningless = []struct{ name, why string }{
	{"SANDBOX_TENANTS_CONFIG_PATH", "has no effect: tenants are not available yet"},
	{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "has no effect: metrics are read at server.admin_listen"},
}

// idleTables are sections that are checked and have no effect yet.
var idleTables = []string{"egress", "otel"}

// Available refuses what is a valid configuration and cannot be run yet.
func (s Settings) Available() error {
	if s.Runtime.Type != RuntimeDocker {
		return errors.New(s.loaded.Mistake("runtime.type", fmt.Sprintf("is valid, but not available yet: %s runs sandboxes on Docker only", s.process)).Error())
	}
	return nil
}
