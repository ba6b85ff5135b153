package redisstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Check compares every index with the records and returns what does not agree, in words; nothing means that all is well. It reads
// everything and not at one moment, so it is for tests and for operators of a store that nobody writes to.
func (s *Store) Check(ctx context.Context) ([]string, error) {
	found, err := s.everything(ctx)
	if err != nil {
		return nil, s.failed("check", err)
	}
	c := &check{keys: s.keys, found: found, sets: map[string]map[string]string{}, hashes: map[string]map[string]string{}}
	for _, id := range sortedKeys(found.records) {
		c.record(found.records[id])
	}
	c.compare()
	slices.Sort(c.problems)
	return c.problems, nil
}

// contents is all that an installation keeps.
type contents struct {
	// raw are the hashes of the records, records what they mean.
	raw     map[string]map[string]string
	records map[sandbox.ID]*sandbox.Record
	sets    map[string]map[string]string
	hashes  map[string]map[string]string
	// secrets are the ids of which a secret is kept.
	secrets map[sandbox.ID]bool
}

func (s *Store) everything(ctx context.Context) (*contents, error) {
	names, err := s.allKeys(ctx)
	if err != nil {
		return nil, err
	}
	c := &contents{
		raw: map[string]map[string]string{}, records: map[sandbox.ID]*sandbox.Record{},
		sets: map[string]map[string]string{}, hashes: map[string]map[string]string{}, secrets: map[sandbox.ID]bool{},
	}
	for _, name := range names {
		if err := s.readKey(ctx, c, name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return c, nil
}

// allKeys are all keys of the installation, on all servers of a cluster.
func (s *Store) allKeys(ctx context.Context) ([]string, error) {
	pattern := strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(s.keys.base) + "*"
	seen := map[string]bool{}
	one := func(ctx context.Context, c redis.UniversalClient) error {
		for it := c.Scan(ctx, 0, pattern, 1000).Iterator(); ; {
			if !it.Next(ctx) {
				return it.Err()
			}
			seen[it.Val()] = true
		}
	}
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		err := one(ctx, s.client) // first, since it fills seen
		return sortedKeys(seen), err
	}
	// One after the other, so that seen needs no lock: the records are on one of them anyway.
	var masters []*redis.Client
	found := make(chan *redis.Client, 1024)
	err := cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
		found <- c
		return nil
	})
	close(found)
	for c := range found {
		masters = append(masters, c)
	}
	for _, c := range masters {
		if err == nil {
			err = one(ctx, c)
		}
	}
	return sortedKeys(seen), err
}

func (s *Store) readKey(ctx context.Context, c *contents, name string) error {
	kind, err := s.client.Type(ctx, name).Result()
	if err != nil {
		return err
	}
	switch kind {
	case "string":
		if id, ok := strings.CutPrefix(name, s.keys.secrets()); ok {
			c.secrets[sandbox.ID(id)] = true
		}
	case "zset":
		list, err := s.client.ZRangeWithScores(ctx, name, 0, -1).Result()
		c.sets[name] = map[string]string{}
		for _, z := range list {
			c.sets[name][z.Member.(string)] = strconv.FormatFloat(z.Score, 'f', 0, 64)
		}
		return err
	case "hash":
		all, err := s.client.HGetAll(ctx, name).Result()
		id, isRecord := strings.CutPrefix(name, s.keys.records())
		if err != nil || !isRecord {
			c.hashes[name] = all
			return err
		}
		values := make([]any, len(fields))
		for i, f := range fields {
			if v, ok := all[f]; ok {
				values[i] = v
			}
		}
		r, err := decode(sandbox.ID(id), values)
		if fault.Is(err, fault.NotFound) {
			return fmt.Errorf("a record without a version")
		}
		c.raw[id], c.records[sandbox.ID(id)] = all, r
		return err
	}
	return nil
}

// check collects what the records ask for, and then compares.
type check struct {
	keys  keys
	found *contents
	// sets and hashes are what there should be; names of sets to members with scores, names of hashes to fields.
	sets, hashes map[string]map[string]string
	problems     []string
}

func (c *check) blame(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

func put(m map[string]map[string]string, name, field, value string) {
	if m[name] == nil {
		m[name] = map[string]string{}
	}
	m[name][field] = value
}

func (c *check) record(r *sandbox.Record) {
	id, k := string(r.ID), c.keys
	for name, score := range k.places(r) {
		put(c.sets, name, id, score)
	}
	raw := c.found.raw[id]
	node := ""
	if r.Placed() {
		node = r.Placement.Node
	}
	for field, want := range map[string]string{"f": flags(r), "n": node, "t": r.Tenant, "z": schema} {
		if raw[field] != want {
			c.blame("record %s: field %s is %q and should be %q", id, field, raw[field], want)
		}
	}
	if r.NeedsWork() {
		put(c.sets, k.work(node), id, anyScore)
	}
	if r.Visible() {
		add(c.hashes, k.counts(), countField(r), 1)
	}
	if node == "" {
		return
	}
	cpu, memory := int64(0), int64(0)
	if r.HoldsReservation() {
		cpu, memory = min(r.Placement.Reserved.CPU, maxAmount), min(r.Placement.Reserved.Memory, maxAmount)
	}
	by, ports := holder(r.ID, r.Placement.Epoch), slices.Sorted(maps.Values(r.Placement.Ports))
	put(c.hashes, k.holds(node), by, fmt.Sprintf("%d %d %v", cpu, memory, ports))
	for _, port := range ports {
		put(c.hashes, k.ports(node), strconv.Itoa(port), by)
	}
	add(c.hashes, k.used(node), "count", 1)
	add(c.hashes, k.used(node), "cpu", cpu)
	add(c.hashes, k.used(node), "memory", memory)
}

func add(m map[string]map[string]string, name, field string, n int64) {
	had, _ := strconv.ParseInt(m[name][field], 10, 64)
	put(m, name, field, strconv.FormatInt(had+n, 10))
}

// anyScore stands for a score that does not follow from the record.
const anyScore = "*"

func (c *check) compare() {
	for id := range c.found.secrets {
		if r := c.found.records[id]; r == nil || !r.KeepsSecret() {
			c.blame("a secret of %s is kept, which nothing needs", id)
		}
	}
	for _, name := range both(c.sets, c.found.sets) {
		if node, ok := strings.CutPrefix(name, c.keys.mirrors()); ok {
			for id := range c.found.sets[name] {
				if r := c.found.records[sandbox.ID(id)]; r == nil || !r.Placed() || r.Placement.Node != node {
					c.blame("%s: %s is not on the node", name, id)
				}
			}
			continue
		}
		c.diff(name, c.sets[name], c.found.sets[name])
	}
	for _, name := range both(c.hashes, c.found.hashes) {
		rest, _ := strings.CutPrefix(name, c.keys.shared())
		kind, _, _ := strings.Cut(rest, ":")
		switch kind {
		case "counts", "ports":
			c.diff(name, c.hashes[name], c.found.hashes[name])
		case "used":
			c.diff(name, withoutZeros(c.hashes[name]), withoutZeros(c.found.hashes[name]))
		case "holds":
			c.diff(name, c.hashes[name], holdsOf(c.found.hashes[name]))
		}
	}
}

// holdsOf brings the ports of holds into an order.
func holdsOf(m map[string]string) map[string]string {
	out := map[string]string{}
	for by, text := range m {
		cpu, rest, _ := strings.Cut(text, " ")
		memory, list, _ := strings.Cut(rest, " ")
		var ports []int
		for _, p := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
			n, err := strconv.Atoi(p)
			if err != nil {
				n = -1
			}
			ports = append(ports, n)
		}
		slices.Sort(ports)
		out[by] = fmt.Sprintf("%s %s %v", cpu, memory, ports)
	}
	return out
}

func withoutZeros(m map[string]string) map[string]string {
	out := maps.Clone(m)
	maps.DeleteFunc(out, func(_, v string) bool { return v == "0" })
	return out
}

func both(a, b map[string]map[string]string) []string {
	all := map[string]bool{}
	for name := range a {
		all[name] = true
	}
	for name := range b {
		all[name] = true
	}
	return sortedKeys(all)
}

func (c *check) diff(name string, want, got map[string]string) {
	for field, w := range want {
		g, ok := got[field]
		switch {
		case !ok:
			c.blame("%s: %s is missing", name, field)
		case g != w && w != anyScore:
			c.blame("%s: %s is %q and should be %q", name, field, g, w)
		}
	}
	for field := range got {
		if _, ok := want[field]; !ok {
			c.blame("%s: %s should not be there", name, field)
		}
	}
}
