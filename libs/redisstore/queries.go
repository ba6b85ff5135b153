package redisstore

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Get implements sandbox.Queries.
func (s *Store) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	values, err := s.client.HMGet(ctx, s.keys.record(id), fields...).Result()
	if err != nil {
		return sandbox.Record{}, s.failed("get", err)
	}
	r, err := decode(id, values)
	if err != nil {
		return sandbox.Record{}, s.failed("get", err)
	}
	return *r, nil
}

// load reads records; one that does not exist is nil, and so is one that a newer version of this program wrote: what is done for many
// records must not stop at one. That version does it for its own.
func (s *Store) load(ctx context.Context, ids []sandbox.ID) ([]*sandbox.Record, error) {
	out, unknown, err := s.loadAll(ctx, ids)
	if unknown != nil && !s.newer.Swap(true) {
		s.log.ErrorContext(ctx, "records of another version of this program are passed over until it is the same everywhere", "error", unknown.Because,
			"sandbox", unknown.IDs[0])
	}
	return out, err
}

// loadAll reads records; one that does not exist is nil. unknown says which of them another version wrote, which are nil too.
func (s *Store) loadAll(ctx context.Context, ids []sandbox.ID) (out []*sandbox.Record, unknown *sandbox.Unread, err error) {
	if len(ids) == 0 {
		return nil, nil, nil
	}
	pipe := s.client.Pipeline()
	cmds := make([]*redis.SliceCmd, len(ids))
	for i, id := range ids {
		cmds[i] = pipe.HMGet(ctx, s.keys.record(id), fields...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, nil, err
	}
	out = make([]*sandbox.Record, len(ids))
	for i, c := range cmds {
		r, err := decode(ids[i], c.Val())
		switch {
		case err == nil:
			out[i] = r
		case sandbox.IsUnread(err):
			if unknown == nil {
				unknown = &sandbox.Unread{Because: err}
			}
			unknown.IDs = append(unknown.IDs, ids[i])
		case !fault.Is(err, fault.NotFound):
			return nil, nil, err
		}
	}
	return out, unknown, nil
}

// first returns the first records of a set.
func (s *Store) first(ctx context.Context, op, key string, max int) ([]sandbox.Record, error) {
	if max < 1 {
		return nil, nil
	}
	ids, err := s.client.ZRange(ctx, key, 0, int64(max)-1).Result()
	if err != nil {
		return nil, s.failed(op, err)
	}
	recs, err := s.load(ctx, asIDs(ids))
	if err != nil {
		return nil, s.failed(op, err)
	}
	out := make([]sandbox.Record, 0, len(recs))
	for _, r := range recs {
		if r != nil {
			out = append(out, *r)
		}
	}
	return out, nil
}

// chunk is how many members of a set are looked at in one go when a list has several filters on metadata.
const chunk = 1000

// List implements sandbox.Queries. fault.Invalid for an offset or limit out of range. Up to one filter on metadata, with any on
// states, costs the page and what lies before it; more filters walk the smallest set of the first kind.
func (s *Store) List(ctx context.Context, q sandbox.Query) (sandbox.Page, error) {
	if q.Limit < 1 || q.Offset < 0 {
		return sandbox.Page{}, fault.New(fault.Invalid, "a page has at least one item and does not start before the first")
	}
	states := q.States
	if len(states) == 0 {
		states = sandbox.States()
	}
	states = slices.Compact(slices.Sorted(slices.Values(states)))
	var page sandbox.Page
	var ids []sandbox.ID
	var err error
	if len(q.Metadata) <= 1 {
		ids, page.Total, err = s.pageOf(ctx, s.sets(q, states), q.Offset, q.Limit)
	} else {
		ids, page.Total, err = s.walk(ctx, q, states)
	}
	if err != nil {
		return sandbox.Page{}, s.failed("list", err)
	}
	recs, err := s.load(ctx, ids)
	if err != nil {
		return sandbox.Page{}, s.failed("list", err)
	}
	for _, r := range recs {
		// A record may have changed since its id was read; then it is not shown as something that it is not.
		if r != nil && r.Visible() && r.Tenant == q.Tenant && slices.Contains(states, sandbox.StateOf(r)) {
			page.Items = append(page.Items, *r)
		}
	}
	return page, nil
}

// sets are the sets, one for each state, whose members match a query with at most one filter on metadata.
func (s *Store) sets(q sandbox.Query, states []sandbox.State) []string {
	out := make([]string, 0, len(states))
	for _, st := range states {
		key := s.keys.list(q.Tenant, st)
		for k, v := range q.Metadata {
			key = s.keys.label(q.Tenant, st, k, v)
		}
		out = append(out, key)
	}
	return out
}

// farPage is the offset from which on it pays to ask first how many members the sets have.
const farPage = 500

// pageOf merges sets of creation times, newest first, then by id descending. A record is in one set only, because it has one state.
func (s *Store) pageOf(ctx context.Context, sets []string, offset, limit int) ([]sandbox.ID, int, error) {
	if offset >= farPage {
		counts, err := s.sizes(ctx, sets)
		if err != nil {
			return nil, 0, err
		}
		var filled []string
		total := 0
		for i, n := range counts {
			if n > 0 {
				filled = append(filled, sets[i])
			}
			total += int(n)
		}
		if offset >= total {
			return nil, total, nil
		}
		sets = filled
	}
	// What lies before the page is read only where it has to be merged.
	from := 0
	if len(sets) == 1 {
		from = offset
	}
	counts, ranges := make([]*redis.IntCmd, len(sets)), make([]*redis.ZSliceCmd, len(sets))
	err := s.readTogether(ctx, func(pipe redis.Pipeliner) {
		for i, key := range sets {
			counts[i] = pipe.ZCard(ctx, key)
			ranges[i] = pipe.ZRevRangeWithScores(ctx, key, int64(from), int64(offset)+int64(limit)-1)
		}
	})
	if err != nil {
		return nil, 0, err
	}
	total := 0
	var all []redis.Z
	for i := range sets {
		total += int(counts[i].Val())
		all = append(all, ranges[i].Val()...)
	}
	ids := newestFirst(all)
	ids = ids[min(offset-from, len(ids)):]
	return ids[:min(limit, len(ids))], total, nil
}

func newestFirst(all []redis.Z) []sandbox.ID {
	slices.SortFunc(all, func(a, b redis.Z) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(b.Member.(string), a.Member.(string)))
	})
	out := make([]sandbox.ID, 0, len(all))
	for _, z := range all {
		out = append(out, sandbox.ID(z.Member.(string)))
	}
	return out
}

// sizes are the numbers of members of sets.
func (s *Store) sizes(ctx context.Context, sets []string) ([]int64, error) {
	pipe := s.client.Pipeline()
	cmds := make([]*redis.IntCmd, len(sets))
	for i, key := range sets {
		cmds[i] = pipe.ZCard(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	out := make([]int64, len(sets))
	for i, c := range cmds {
		out[i] = c.Val()
	}
	return out, nil
}

// walk finds what matches several filters on metadata: for each state it walks the smallest of the sets and asks the others.
func (s *Store) walk(ctx context.Context, q sandbox.Query, states []sandbox.State) ([]sandbox.ID, int, error) {
	labels := sortedKeys(q.Metadata)
	var sets []string
	for _, st := range states {
		for _, k := range labels {
			sets = append(sets, s.keys.label(q.Tenant, st, k, q.Metadata[k]))
		}
	}
	counts, err := s.sizes(ctx, sets)
	if err != nil {
		return nil, 0, err
	}
	var all []redis.Z
	for i := 0; i < len(sets); i += len(labels) {
		found, err := s.intersect(ctx, sets[i:i+len(labels)], counts[i:i+len(labels)])
		if err != nil {
			return nil, 0, err
		}
		all = append(all, found...)
	}
	ids := newestFirst(all)
	from := min(q.Offset, len(ids))
	return ids[from:min(from+q.Limit, len(ids))], len(ids), nil
}

// intersect returns the members that are in all of the sets, which have so many members.
func (s *Store) intersect(ctx context.Context, sets []string, counts []int64) ([]redis.Z, error) {
	least := 0
	for i := range counts {
		if counts[i] < counts[least] {
			least = i
		}
	}
	var out []redis.Z
	for at := int64(0); at < counts[least]; at += chunk {
		part, err := s.client.ZRangeWithScores(ctx, sets[least], at, at+chunk-1).Result()
		if err != nil || len(part) == 0 {
			return out, err
		}
		if part, err = s.inAll(ctx, part, sets, least); err != nil {
			return nil, err
		}
		out = append(out, part...)
	}
	return out, nil
}

// inAll keeps the members of part that are in every set; the one at index has need not be asked.
func (s *Store) inAll(ctx context.Context, part []redis.Z, sets []string, has int) ([]redis.Z, error) {
	members := make([]string, len(part))
	for i, z := range part {
		members[i] = z.Member.(string)
	}
	pipe := s.client.Pipeline()
	var scores []*redis.FloatSliceCmd
	for i, key := range sets {
		if i != has {
			scores = append(scores, pipe.ZMScore(ctx, key, members...))
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	var out []redis.Z
	for i, z := range part {
		// A missing member has the score 0, and no record was made in 1970.
		if !slices.ContainsFunc(scores, func(c *redis.FloatSliceCmd) bool { return c.Val()[i] == 0 }) {
			out = append(out, z)
		}
	}
	return out, nil
}

// Incarnation implements sandbox.Queries.
func (s *Store) Incarnation(ctx context.Context) (time.Time, error) {
	made, err := s.client.HGet(ctx, s.keys.meta(), metaMade).Result()
	if err != nil {
		return time.Time{}, s.failed("incarnation", err)
	}
	at, err := parseMicros(made)
	return at, s.failed("incarnation", err)
}

// Now implements sandbox.Queries.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if s.clock != nil {
		return s.clock().UTC().Truncate(time.Microsecond), ctx.Err()
	}
	// By a script, because in a cluster the time has to be that of the node that the records are on.
	now, _, err := s.read(ctx, []string{s.keys.meta()}, []any{1, metaMade})
	return now, s.failed("time", err)
}

// Counts returns how many visible records there are of each node and state; what is missing is 0. Records that hold nothing on a node
// have none. The numbers are kept with the records, so that this costs the same however many there are.
func (s *Store) Counts(ctx context.Context) (map[struct {
	Node  string
	State sandbox.State
}]int, error) {
	all, err := s.client.HGetAll(ctx, s.keys.counts()).Result()
	if err != nil {
		return nil, s.failed("counts", err)
	}
	out := make(map[struct {
		Node  string
		State sandbox.State
	}]int, len(all))
	for field, text := range all {
		st, name, _ := strings.Cut(field, " ")
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, s.failed("counts", errAnswer(text))
		}
		out[struct {
			Node  string
			State sandbox.State
		}{name, sandbox.State(st)}] = n
	}
	return out, nil
}
