package redisstore

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/sandbox"
)

// ExpireDue implements sandbox.Deadlines. The earliest deadline comes first, then the lower id.
func (s *Store) ExpireDue(ctx context.Context, notAfter time.Time, max int) ([]sandbox.ID, error) {
	if max < 1 {
		return nil, nil
	}
	// By the caller's time first: mostly there is nothing due, and this is all.
	ids, err := s.client.ZRangeArgs(ctx, redis.ZRangeArgs{
		Key: s.keys.deadlines(), ByScore: true, Start: "-inf", Stop: score(notAfter.Truncate(time.Microsecond)), Count: int64(max),
	}).Result()
	if err != nil || len(ids) == 0 {
		return nil, s.failed("due", err)
	}
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	until := now
	if notAfter.Before(until) {
		until = notAfter
	}
	out, err := s.expire(ctx, asIDs(ids), until, now)
	return out, s.failed("expire", err)
}

// expire sets those of the records Gone that are due, all in two round trips. One that another writer has changed in between is left to
// the next call, which finds it still due, or not.
func (s *Store) expire(ctx context.Context, ids []sandbox.ID, until, now time.Time) ([]sandbox.ID, error) {
	recs, err := s.load(ctx, ids)
	if err != nil {
		return nil, err
	}
	var changes []*change
	for _, rec := range recs {
		if rec == nil || !rec.Due(until) {
			continue
		}
		r := rec.Clone()
		// Due by the caller's slower time, but it ends now.
		if !r.Expire(now) {
			continue
		}
		c := s.keys.change(r.ID, strconv.FormatUint(rec.Version, 10))
		c.guardMark(ctx, true)
		if _, err := c.write(rec, &r); err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	answers, err := s.applyAll(ctx, changes)
	if err != nil {
		return nil, err
	}
	var out []sandbox.ID
	for i, a := range answers {
		if a == answerOK {
			out = append(out, changes[i].id)
		}
	}
	if len(out) < len(changes) {
		return out, s.mayEnd(ctx)
	}
	return out, nil
}

// applyAll runs several changes in one round trip; each holds or fails by itself.
func (s *Store) applyAll(ctx context.Context, changes []*change) ([]string, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	runs := make([]invocation, 0, len(changes))
	for _, c := range changes {
		runs = append(runs, invocation{c.keyList, c.args()})
	}
	out, confirmed, err := s.runAll(ctx, s.scripts.save, runs)
	if err != nil {
		return nil, err
	}
	answers := make([]string, len(changes))
	for i := range out {
		if answers[i], _, err = parseAnswer(out[i]); err != nil {
			return nil, err
		}
	}
	if confirmed != nil {
		return answers, unconfirmed(confirmed)
	}
	return answers, nil
}

// NextDeadline implements sandbox.Deadlines.
func (s *Store) NextDeadline(ctx context.Context) (at time.Time, ok bool, err error) {
	head, err := s.client.ZRangeWithScores(ctx, s.keys.deadlines(), 0, 0).Result()
	if err != nil || len(head) == 0 {
		return time.Time{}, false, s.failed("next deadline", err)
	}
	return time.UnixMicro(int64(head[0].Score)).UTC(), true, nil
}

// Attention implements sandbox.Deadlines. The earliest comes first, then the lower id; next is the first that is not among them, so it
// lies in the past when there were more than max.
func (s *Store) Attention(ctx context.Context, max int) (due []sandbox.Record, next time.Time, err error) {
	now, err := s.Now(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	head, err := s.client.ZRangeWithScores(ctx, s.keys.attention(), 0, int64(max)).Result()
	if err != nil {
		return nil, time.Time{}, s.failed("attention", err)
	}
	var ids []sandbox.ID
	for _, z := range head {
		at := time.UnixMicro(int64(z.Score)).UTC()
		if len(ids) == max || at.After(now) {
			next = at
			break
		}
		ids = append(ids, sandbox.ID(z.Member.(string)))
	}
	recs, err := s.load(ctx, ids)
	if err != nil {
		return nil, time.Time{}, s.failed("attention", err)
	}
	for _, r := range recs {
		if r != nil && !r.AttentionAt().IsZero() && !r.AttentionAt().After(now) {
			due = append(due, *r)
		}
	}
	return due, next, nil
}

// Purge implements sandbox.Deadlines. The one that could be forgotten first goes first.
func (s *Store) Purge(ctx context.Context, age time.Duration, max int) (int, error) {
	if max < 1 {
		return 0, nil
	}
	now, err := s.Now(ctx)
	if err != nil {
		return 0, err
	}
	before := score(now.Add(-age))
	ids, err := s.client.ZRangeArgs(ctx, redis.ZRangeArgs{
		Key: s.keys.ended(), ByScore: true, Start: "-inf", Stop: "(" + before, Count: int64(max),
	}).Result()
	if err != nil || len(ids) == 0 {
		return 0, s.failed("purge", err)
	}
	made, changes := "", ""
	if known := sandbox.MarkOf(ctx); known != (sandbox.Mark{}) {
		made, changes = micros(known.Incarnation), strconv.FormatUint(known.Changes, 10)
	}
	keyList, args := []string{s.keys.ended(), s.keys.meta()}, []any{before, made, changes}
	for _, id := range ids {
		keyList, args = append(keyList, s.keys.record(sandbox.ID(id)), s.keys.secret(sandbox.ID(id))), append(args, id)
	}
	n, err := s.scripts.purge.Run(ctx, s.client, keyList, args...).Int()
	if err == nil && n < 0 {
		return 0, s.mayEnd(ctx)
	}
	return n, s.failed("purge", err)
}
