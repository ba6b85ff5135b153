package redisstore

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Insert implements sandbox.Intents.
func (s *Store) Insert(ctx context.Context, n sandbox.New) (sandbox.Record, error) {
	free := sandbox.ID("")
	for attempt := range attempts {
		if err := wait(ctx, attempt); err != nil {
			return sandbox.Record{}, err
		}
		r, held, err := s.insert(ctx, n, free)
		if err != nil || held == nil {
			return r, s.failed("insert", err)
		}
		if held.rec == nil {
			return sandbox.Record{}, sandbox.ErrKeySpent(held.id)
		}
		repeats, err := held.rec.Repeats(n.Key, held.hash)
		if err != nil {
			return sandbox.Record{}, err
		}
		if repeats {
			return *held.rec, nil
		}
		// Only as long as the key still leads to this record: of two repetitions one takes the key, and the other finds the new one.
		free = held.id
	}
	return sandbox.Record{}, errContended(n.ID)
}

// held is what an idempotency key leads to. rec is nil for a record that is forgotten.
type held struct {
	hash string
	id   sandbox.ID
	rec  *sandbox.Record
}

// insert runs insert.lua once. free is the id that the key may lead to and is taken over all the same.
func (s *Store) insert(ctx context.Context, n sandbox.New, free sandbox.ID) (sandbox.Record, *held, error) {
	r := sandbox.NewRecord(n, time.Time{}, sandbox.OriginOf(ctx)) // the script knows the time
	rec, err := encoded(&r)
	if err != nil {
		return sandbox.Record{}, nil, err
	}
	lifetime, flag := "", "endless"
	if n.Spec.Timeout > 0 {
		lifetime, flag = strconv.FormatInt(n.Spec.Timeout.Microseconds(), 10), ""
	}
	k, st := s.keys, sandbox.StateOf(&r)
	key, keep := k.meta(), ""
	if n.Key.Set() {
		key, keep = k.idempotent(n.Tenant, n.Key.Name), strconv.FormatInt(sandbox.KeepKey.Milliseconds(), 10)
	}
	keyList := []string{k.record(n.ID), k.meta(), k.deadlines(), k.counts(), key, k.secret(n.ID), k.unplaced(), k.list(n.Tenant, st)}
	for _, label := range sortedKeys(n.Metadata) {
		keyList = append(keyList, k.label(n.Tenant, st, label, n.Metadata[label]))
	}
	placement, _ := k.channel(sandbox.TopicPlacement)
	deadline, _ := k.channel(sandbox.TopicDeadline)
	out, err := s.run(ctx, s.scripts.insert, keyList, string(n.ID), rec[0], rec[2], flag, lifetime, schema, placement, deadline, s.given(),
		n.Tenant, callName(), countField(&r), keep, n.Key.Hash, string(free), k.records(), string(n.Secret))
	if err != nil {
		return sandbox.Record{}, nil, err
	}
	return inserted(r, out)
}

// inserted reads the answer of insert.lua, which was given r.
func inserted(r sandbox.Record, out any) (sandbox.Record, *held, error) {
	list, ok := out.([]any)
	switch {
	case ok && len(list) == 1 && list[0] == answerExists:
		return sandbox.Record{}, nil, fault.New(fault.Conflict, "a sandbox with this id exists").About(string(r.ID))
	case ok && len(list) == 4 && list[0] == answerHeld:
		h := &held{}
		h.hash, _ = list[1].(string)
		other, _ := list[2].(string)
		values, ok := list[3].([]any)
		if !ok {
			return sandbox.Record{}, nil, errAnswer(out)
		}
		h.id = sandbox.ID(other)
		var err error
		if h.rec, err = decode(h.id, values); err != nil && !fault.Is(err, fault.NotFound) {
			return sandbox.Record{}, nil, err
		}
		return sandbox.Record{}, h, nil
	case !ok || len(list) != 3:
		return sandbox.Record{}, nil, errAnswer(out)
	}
	times := [2]time.Time{}
	for i := range times {
		text, _ := list[1+i].(string)
		at, err := parseMicros(text)
		if err != nil {
			return sandbox.Record{}, nil, errAnswer(out)
		}
		times[i] = at
	}
	r = r.Clone() // it holds what the caller has given
	r.Version, r.CreatedAt, r.Intent.ExpiresAt = 1, times[0], times[1]
	return r, nil, nil
}

// given is the time of a test's clock in microseconds, or "" for the server's own.
func (s *Store) given() string {
	if s.clock == nil {
		return ""
	}
	return micros(s.clock().Truncate(time.Microsecond))
}

// Accept implements sandbox.Intents.
func (s *Store) Accept(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	r, done, err := s.quick(ctx, "accept", s.scripts.accept, id, []string{s.keys.record(id), s.keys.meta()}, string(id), s.keys.mirrors(), schema)
	if done || err != nil {
		return r, err
	}
	return s.update(ctx, "accept", id, func(_ *view, r *sandbox.Record, _ *change) error { return r.Accept() })
}

// Renew implements sandbox.Intents.
func (s *Store) Renew(ctx context.Context, id sandbox.ID, tenant string, at time.Time) (sandbox.Record, error) {
	at = at.UTC().Truncate(time.Microsecond)
	if m := at.UnixMicro(); m > 0 && m < exact {
		deadline, _ := s.keys.channel(sandbox.TopicDeadline)
		r, done, err := s.quick(ctx, "renew", s.scripts.renew, id, []string{s.keys.record(id), s.keys.meta(), s.keys.deadlines()},
			string(id), micros(at), s.given(), s.keys.mirrors(), deadline, schema, tenant)
		if done || err != nil {
			return r, err
		}
	}
	return s.update(ctx, "renew", id, func(v *view, r *sandbox.Record, _ *change) error {
		if !r.OwnedBy(tenant) {
			return sandbox.ErrNotFound(id)
		}
		return r.Renew(at, v.now)
	})
}

// Extend implements sandbox.Intents.
func (s *Store) Extend(ctx context.Context, id sandbox.ID, at time.Time) (sandbox.Record, error) {
	return s.update(ctx, "extend", id, func(v *view, r *sandbox.Record, _ *change) error { return r.Extend(at, v.now) })
}

// quick runs a script that does the plain case of a change. done is false when the case is not plain, and nothing has happened.
func (s *Store) quick(ctx context.Context, op string, script *redis.Script, id sandbox.ID, keyList []string, args ...any) (r sandbox.Record, done bool, err error) {
	out, err := s.run(ctx, script, keyList, args...)
	if err != nil {
		return r, false, s.failed(op, err)
	}
	list, ok := out.([]any)
	if !ok || len(list) == 0 {
		return r, false, s.failed(op, errAnswer(out))
	}
	if list[0] != answerOK || len(list) < 2 {
		return r, false, nil
	}
	values, ok := list[1].([]any)
	if !ok {
		return r, false, s.failed(op, errAnswer(out))
	}
	rec, err := decode(id, values)
	if err != nil {
		return r, false, s.failed(op, err)
	}
	return *rec, true, nil
}

// SetDesired implements sandbox.Intents.
func (s *Store) SetDesired(ctx context.Context, id sandbox.ID, d sandbox.Desired, ifGeneration uint64) (sandbox.Record, error) {
	return s.update(ctx, "set desired", id, func(_ *view, r *sandbox.Record, _ *change) error {
		return r.SetDesired(d, ifGeneration, sandbox.OriginOf(ctx))
	})
}

// SetGone implements sandbox.Intents.
func (s *Store) SetGone(ctx context.Context, id sandbox.ID, reason string) (sandbox.Record, error) {
	return s.update(ctx, "set gone", id, func(v *view, r *sandbox.Record, _ *change) error {
		r.SetGone(reason, v.now, sandbox.OriginOf(ctx))
		return nil
	})
}

// PatchMetadata implements sandbox.Intents.
func (s *Store) PatchMetadata(ctx context.Context, id sandbox.ID, tenant string, patch map[string]*string) (sandbox.Record, error) {
	return s.update(ctx, "patch metadata", id, func(_ *view, r *sandbox.Record, _ *change) error {
		if !r.OwnedBy(tenant) {
			return sandbox.ErrNotFound(id)
		}
		had := r.Intent.Metadata
		if err := r.PatchMetadata(patch); err != nil {
			return err
		}
		if len(had) == 0 && len(r.Intent.Metadata) == 0 {
			// No metadata and empty metadata are the same: this is no change.
			r.Intent.Metadata = had
		}
		return nil
	})
}
