package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"opensandbox/libs/fault"
)

// Fields of the meta hash.
const (
	metaMade    = "made"
	metaSchema  = "schema"
	metaChanges = "changes"
	metaNodes   = "nodes"
	metaPrint   = "fingerprint"
	// metaRecovering and metaUnreported are those of a sandbox.Recovery; see markFields.
	metaRecovering = "recovering"
	metaUnreported = "unreported"
)

// minMajor and minMinor are the oldest Redis that has all commands that are used.
const minMajor, minMinor = 6, 2

// openRetry is the pause between attempts to reach the server at the start.
const openRetry = 200 * time.Millisecond

// prepare checks the server and makes the key space if it is new.
func (s *Store) prepare(ctx context.Context) error {
	info, err := s.info(ctx)
	if err != nil {
		return s.refused(err)
	}
	if err := checkVersion(info["redis_version"]); err != nil {
		return err
	}
	s.warnIfVolatile(ctx)
	if s.durable {
		s.warnIfUnconfirmed(ctx)
	}
	if err := s.sendScripts(ctx); err != nil {
		return err
	}
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	if err := s.bind(ctx); err != nil {
		return err
	}
	_, err = s.meta(ctx, metaMade, micros(now))
	return err
}

// meta returns a field of the meta hash, which gets value if it is missing.
func (s *Store) meta(ctx context.Context, field, value string) (string, error) {
	if err := s.client.HSetNX(ctx, s.keys.meta(), field, value).Err(); err != nil {
		return "", s.failed("prepare", err)
	}
	have, err := s.client.HGet(ctx, s.keys.meta(), field).Result()
	return have, s.failed("prepare", err)
}

// refused classifies why a server cannot be used at the start.
func (s *Store) refused(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "NOPERM"):
		return fault.New(fault.Forbidden, "the user of Redis may not do what is needed: it needs all commands on the keys and channels of the installation").Because(err)
	case permanent(err):
		return fault.New(fault.Unauthenticated, "Redis refuses the user or the password, or its certificate is not trusted").Because(err)
	}
	return s.failed("connect", err)
}

// info asks the server what it is, again and again until it answers or ctx ends. A server that refuses (wrong password) is not asked
// again.
func (s *Store) info(ctx context.Context) (map[string]string, error) {
	said := false
	for {
		text, err := s.ask(ctx, "server")
		if err == nil {
			return parseInfo(text), nil
		}
		if permanent(err) {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, errUnreached(ctx, err)
		}
		if !said {
			s.log.WarnContext(ctx, "Redis does not answer; waiting for it", "error", err)
			said = true
		}
		select {
		case <-time.After(openRetry):
		case <-ctx.Done():
			return nil, errUnreached(ctx, err)
		}
	}
}

// ask asks the server that takes the writes for a section of its INFO.
func (s *Store) ask(ctx context.Context, section string) (string, error) {
	server, err := s.master(ctx)
	if err != nil {
		return "", err
	}
	return server.Info(ctx, section).Result()
}

func errUnreached(ctx context.Context, last error) error {
	return fault.New(fault.Unavailable, "Redis cannot be reached").RetryAfter(retryAfter).Because(fmt.Errorf("%w (%w)", last, context.Cause(ctx)))
}

func parseInfo(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			out[k] = v
		}
	}
	return out
}

func checkVersion(v string) error {
	parts := strings.SplitN(v, ".", 3)
	if len(parts) < 2 {
		return nil // a server that hides its version
	}
	major, errA := strconv.Atoi(parts[0])
	minor, errB := strconv.Atoi(parts[1])
	if errA != nil || errB != nil || major > minMajor || (major == minMajor && minor >= minMinor) {
		return nil
	}
	return fault.Newf(fault.Invalid, "Redis %s is too old: %d.%d or newer is needed", v, minMajor, minMinor)
}

// warnIfVolatile says loudly when a restart of the server would lose everything. Servers that do not let their configuration be read
// are believed.
func (s *Store) warnIfVolatile(ctx context.Context) {
	server, err := s.master(ctx)
	if err != nil {
		return
	}
	appendOnly, err := server.ConfigGet(ctx, "appendonly").Result()
	if err != nil {
		return
	}
	save, err := server.ConfigGet(ctx, "save").Result()
	if err != nil || appendOnly["appendonly"] != "no" {
		return
	}
	if save["save"] == "" {
		s.log.ErrorContext(ctx, "Redis keeps nothing on disk (appendonly no, save \"\"): when it restarts, all records are lost. Set appendonly yes")
		return
	}
	s.log.WarnContext(ctx, "Redis writes to disk only now and then (appendonly no): when it stops hard, the last minutes are lost. Set appendonly yes")
}

// warnIfUnconfirmed says what keeps durable mode from being what its name says. It is no reason not to start: a replica may come later.
func (s *Store) warnIfUnconfirmed(ctx context.Context) {
	text, err := s.ask(ctx, "replication")
	if err == nil && parseInfo(text)["connected_slaves"] == "0" {
		s.log.WarnContext(ctx, "store.durable: the Redis master has no replica now; until it has one, all changes are answered 503 STORE::UNCONFIRMED")
	}
	server, err := s.master(ctx)
	if err != nil {
		return
	}
	if sync, err := server.ConfigGet(ctx, "appendfsync").Result(); err == nil && sync["appendfsync"] != "always" {
		s.log.WarnContext(ctx, "store.durable: Redis confirms changes before they are on disk (appendfsync "+sync["appendfsync"]+
			"): when master and replica stop hard at once, the last second is lost. Set appendfsync always on all servers")
	}
}
