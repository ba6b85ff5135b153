// Package redisstore implements the ports of packages sandbox and node on Redis, for any number of processes. Redis 6.2 or newer:
// a single server, Sentinel, or Cluster.
//
// A write reads the record, decides in Go by the same transitions as every other store, and runs one script that does all of it, record
// and indexes, on condition that the record is as it was read; otherwise it starts again. What is hot (renewals, the acceptance of a
// create) has a script that does the plain case in one round trip. The time is that of the Redis server.
package redisstore

import (
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/wakeup"
)

var (
	_ sandbox.Store = (*Store)(nil)
	_ node.Registry = (*Store)(nil)
)

//go:embed scripts/*.lua
var sources embed.FS

// Config is how to open a Store.
type Config struct {
	// Client is the connection; the Store closes it.
	Client redis.UniversalClient
	// Installation names the part of the key space; several installations share a server without seeing one another.
	Installation string
	// Fingerprint tells installations apart that have the same name by mistake: the first one that is given is kept, and Open refuses
	// another. Empty is not checked.
	Fingerprint string
	// Durable makes every write wait until a replica has it (WAIT), at most DurableTimeout.
	Durable bool
	// Topics are those that are subscribed to in this process; RecordTopic of no id stands for those of all records. Every hint costs each
	// process that gets it, so each should get only what it needs. None: all, which a user of
	// Redis with rights to the channels of one installation only may not.
	Topics []sandbox.Topic
	// Clock replaces the time of the server, for tests.
	Clock func() time.Time
	Log   *slog.Logger
}

// retryAfter is what clients are told while the store is away.
const retryAfter = time.Second

// Store is a store on Redis. All methods may be called concurrently, from any number of processes.
type Store struct {
	client redis.UniversalClient
	keys   keys
	// installation and fingerprint are what the key space is bound to.
	installation, fingerprint string

	clock   func() time.Time
	durable bool
	log     *slog.Logger
	scripts scripts
	hub     wakeup.Hub
	// channels are those that hints are expected on; none: all.
	channels []string

	stop      context.CancelFunc
	listening sync.WaitGroup
	closed    atomic.Bool
	// reckoning is the time of the server as it was last read.
	reckoning atomic.Pointer[reckoning]
	// fleet are the nodes as they were last read.
	fleet atomic.Pointer[fleet]
	// newer says that a record of a newer version was passed over and that the log says so.
	newer atomic.Bool
}

type scripts struct{ insert, save, renew, accept, read, mirrored, purge *redis.Script }

// Open checks the server, binds the key space to the installation and listens for hints. It waits for the server as long as ctx
// allows. Close must be called. When Open fails it has closed the client.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		client: cfg.Client, keys: newKeys(cfg.Installation), clock: cfg.Clock, durable: cfg.Durable, log: log,
		installation: cfg.Installation, fingerprint: cfg.Fingerprint,
		stop: func() {},
	}
	for _, t := range cfg.Topics {
		channel, _ := s.keys.channel(t)
		s.channels = append(s.channels, channel)
	}
	s.client.AddHook(limit{})
	if err := s.open(ctx); err != nil {
		if closing := s.Close(); closing != nil {
			log.WarnContext(ctx, "the connections to Redis were not closed in order", "error", closing)
		}
		return nil, err
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := s.readScripts(); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	listen, stop := context.WithCancel(context.Background())
	s.stop = stop
	return s.listen(ctx, listen)
}

// Close stops listening and closes the client.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.stop()
	s.listening.Wait()
	return s.client.Close()
}

// names are the files of the scripts, without their ending, and where each goes.
func (c *scripts) names() map[string]**redis.Script {
	return map[string]**redis.Script{
		"insert": &c.insert, "save": &c.save, "renew": &c.renew, "accept": &c.accept, "read": &c.read, "mirrored": &c.mirrored, "purge": &c.purge,
	}
}

func (s *Store) readScripts() error {
	for name, into := range s.scripts.names() {
		src, err := sources.ReadFile("scripts/" + name + ".lua")
		if err != nil {
			return fmt.Errorf("script %s: %w", name, err)
		}
		*into = redis.NewScript(string(src))
	}
	return nil
}

// sendScripts makes the server know all scripts, so that the first call of each is one round trip. A server that restarts forgets
// them; then each is sent with its next call.
func (s *Store) sendScripts(ctx context.Context) error {
	for _, script := range s.scripts.names() {
		if err := s.teach(ctx, *script); err != nil {
			return s.failed("send scripts", err)
		}
	}
	return nil
}

// view is what a decision is based on: a record, nil if there is none, and the time.
type view struct {
	id  sandbox.ID
	rec *sandbox.Record
	now time.Time
	// more are the fields of the other hashes that were asked for, in their order.
	more [][]string
}

// hash asks for fields of one more hash.
type hash struct {
	key    string
	fields []string
}

// look reads a record, the time, and other hashes at the same moment.
func (s *Store) look(ctx context.Context, id sandbox.ID, more ...hash) (*view, error) {
	keyList, args := []string{s.keys.record(id)}, []any{len(fields)}
	for _, f := range fields {
		args = append(args, f)
	}
	for _, h := range more {
		keyList, args = append(keyList, h.key), append(args, len(h.fields))
		for _, f := range h.fields {
			args = append(args, f)
		}
	}
	now, hashes, err := s.read(ctx, keyList, args)
	if err != nil {
		return nil, err
	}
	v := &view{id: id, now: now}
	v.rec, err = decode(id, hashes[0])
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	for _, h := range hashes[1:] {
		v.more = append(v.more, texts(h))
	}
	return v, nil
}

// texts are values of a hash, "" for those that are missing.
func texts(values []any) []string {
	out := make([]string, len(values))
	for i := range values {
		out[i], _ = values[i].(string)
	}
	return out
}

func (s *Store) read(ctx context.Context, keyList []string, args []any) (time.Time, [][]any, error) {
	out, err := s.scripts.read.Run(ctx, s.client, keyList, args...).Slice()
	if err != nil {
		return time.Time{}, nil, err
	}
	if len(out) != len(keyList)+2 {
		return time.Time{}, nil, errAnswer(out)
	}
	now, err := s.time(out[0], out[1])
	if err != nil {
		return now, nil, err
	}
	s.reckoning.Store(&reckoning{now, time.Now()})
	hashes := make([][]any, 0, len(keyList))
	for _, h := range out[2:] {
		list, ok := h.([]any)
		if !ok {
			return now, nil, errAnswer(h)
		}
		hashes = append(hashes, list)
	}
	return now, hashes, nil
}

// readTogether runs a transaction that only reads. The client sends a transaction never anew when its answer is lost, since it does not know
// that; so this does.
func (s *Store) readTogether(ctx context.Context, fill func(pipe redis.Pipeliner)) error {
	for attempt := 0; ; attempt++ {
		pipe := s.client.TxPipeline()
		fill(pipe)
		_, err := pipe.Exec(ctx)
		if attempt == retries || !isBroken(err) {
			return err
		}
	}
}

// isBroken reports whether the connection broke before an answer came.
func isBroken(err error) bool {
	return slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE}, func(e error) bool { return errors.Is(err, e) })
}

// time is the answer of TIME, or what the clock of a test shows.
func (s *Store) time(seconds, micros any) (time.Time, error) {
	if s.clock != nil {
		return s.clock().UTC().Truncate(time.Microsecond), nil
	}
	a, okA := seconds.(string)
	b, okB := micros.(string)
	if !okA || !okB {
		return time.Time{}, errAnswer([]any{seconds, micros})
	}
	return parseMicros(a + fmt.Sprintf("%06s", b))
}

func errAnswer(got any) error {
	return fault.New(fault.Internal, "the store gave an answer that was not expected").Because(fmt.Errorf("redis: %T of an unknown form", got))
}

func errContended(id sandbox.ID) error {
	return fault.New(fault.Unavailable, "the record changes faster than it can be written").RetryAfter(retryAfter).About(string(id))
}

// failed classifies an error of Redis. Errors that are classified already, and those of the context, stay as they are.
func (s *Store) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, classified := errors.AsType[*fault.Error](err); classified {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if isMistake(err) {
		return fault.New(fault.Internal, "the store gave an answer that was not expected").Because(fmt.Errorf("redis: %s: %w", op, err))
	}
	return fault.New(fault.Unavailable, "the store is not available").RetryAfter(retryAfter).Because(fmt.Errorf("redis: %s: %w", op, err))
}

// isMistake reports whether an error of the server means that what was asked is wrong, so that asking again does not help.
func isMistake(err error) bool {
	answer, ok := errors.AsType[redis.Error](err)
	if !ok {
		return false
	}
	text := answer.Error()
	mistake := slices.ContainsFunc([]string{"ERR ", "WRONGTYPE ", "NOPERM ", "CROSSSLOT "}, func(p string) bool { return strings.HasPrefix(text, p) })
	return mistake && !strings.Contains(text, "max number of clients")
}

// permanent reports whether an error at the start is one that waiting does not cure: a wrong password, a missing right, or a certificate
// that is not trusted.
func permanent(err error) bool {
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	return untrusted || plain || slices.ContainsFunc([]string{"WRONGPASS", "NOAUTH", "NOPERM", "invalid password", "without any password"}, func(s string) bool {
		return strings.Contains(err.Error(), s)
	})
}
