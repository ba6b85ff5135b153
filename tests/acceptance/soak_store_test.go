//go:build e2e

package acceptance

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"opensandbox/libs/redisstore"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sqlitestore"
)

// What is measured of a store, beside entries by kind.
const (
	usedMemory  measure = "memory in use"
	connections measure = "connections"
	sizeInUse   measure = "size without free pages"
)

// openRedis measures the Redis of the split services.
func (k *soak) openRedis() {
	t := k.s.t
	store := k.s.openStore(t)
	u, err := url.Parse(k.s.split.RedisURL)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	client, err := redisstore.NewClient(redisstore.ClientConfig{Mode: redisstore.ModeSingle, Addrs: []string{u.Host}, Password: password, Name: "soak"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // the test has read what it wanted
	ctx := t.Context()
	prefix := "osb:" + k.s.split.Installation + ":{c0}:"
	k.store = func(in amounts) {
		t.Helper()
		for keys := client.Scan(ctx, 0, "*", 1000).Iterator(); keys.Next(ctx); {
			kind, key := "of others", keys.Val()
			if rest, ok := strings.CutPrefix(key, prefix); ok {
				kind, _, _ = strings.Cut(rest, ":")
			}
			in[quantity{"Redis", measure("keys: " + kind)}]++
			n, err := client.Eval(ctx, entriesOfKey, []string{key}).Int()
			if err != nil {
				t.Fatal(err)
			}
			in[quantity{"Redis", measure("entries: " + kind)}] += float64(n)
		}
		info, err := client.Info(ctx, "memory", "clients").Result()
		if err != nil {
			t.Fatal(err)
		}
		for what, name := range map[measure]string{usedMemory: "used_memory", connections: "connected_clients"} {
			in[quantity{"Redis", what}] = infoNumber(info, name)
		}
	}
	k.forget = func() { k.purge(store) }
}

// entriesOfKey counts what a key has, whatever it is.
const entriesOfKey = `local k = redis.call('TYPE', KEYS[1])['ok']
if k == 'hash' then return redis.call('HLEN', KEYS[1]) end
if k == 'zset' then return redis.call('ZCARD', KEYS[1]) end
if k == 'set' then return redis.call('SCARD', KEYS[1]) end
if k == 'list' then return redis.call('LLEN', KEYS[1]) end
return redis.call('EXISTS', KEYS[1])`

func infoNumber(info, name string) float64 {
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ := strconv.ParseFloat(strings.TrimSpace(text), 64)
			return n
		}
	}
	return 0
}

// purge makes a store forget what has ended, whenever that was.
func (k *soak) purge(store sandbox.Deadlines) {
	k.s.t.Helper()
	for {
		n, err := store.Purge(context.WithoutCancel(k.s.t.Context()), 0, 1000)
		if err != nil {
			k.s.t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

// forgetsAll stops the single binary, has its store forget what has ended, and starts it again: no record may be left.
func (k *soak) forgetsAll() {
	t := k.s.t
	t.Helper()
	k.s.stop()
	store, err := sqlitestore.Open(t.Context(), filepath.Join(k.s.dir, "data", "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	k.purge(store)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	left := amounts{}
	k.store(left)
	for _, what := range []measure{ended, "sandboxes that have not ended", "labels", "held amounts", "leased ports", "idempotency keys", "sealed secrets"} {
		if n := left[quantity{"SQLite", what}]; n != 0 {
			t.Errorf("after all that has ended was forgotten the store has %v %s", n, what)
		}
	}
	k.s.run()
}

// openSQLite measures the file of the single binary, which is the only one that may write to it: what has ended stays there, and is counted
// apart.
func (k *soak) openSQLite() {
	t := k.s.t
	path := filepath.Join(k.s.dir, "data", "store.db")
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(60000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // nothing was written
	number := func(query string) float64 {
		t.Helper()
		var n float64
		if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		return n
	}
	k.store = func(in amounts) {
		t.Helper()
		for what, query := range map[measure]string{
			"sandboxes that have not ended": `SELECT count(*) FROM osb_sandbox WHERE ended_at IS NULL`,
			ended:                           `SELECT count(*) FROM osb_sandbox WHERE ended_at IS NOT NULL`,
			"labels":                        `SELECT count(*) FROM osb_label`,
			"held amounts":                  `SELECT count(*) FROM osb_hold`,
			"leased ports":                  `SELECT count(*) FROM osb_port WHERE id IS NOT NULL`,
			"idempotency keys":              `SELECT count(*) FROM osb_key`,
			"sealed secrets":                `SELECT count(*) FROM osb_secret`,
			"nodes":                         `SELECT count(*) FROM osb_node`,
			sizeInUse:                       `SELECT (p.page_count - f.freelist_count) * s.page_size FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s`,
		} {
			in[quantity{"SQLite", what}] = number(query)
		}
		for _, name := range []string{"store.db", "store.db-wal"} {
			info, err := os.Stat(filepath.Join(k.s.dir, "data", name))
			if os.IsNotExist(err) {
				continue // the last one to close it takes the journal away
			}
			if err != nil {
				t.Fatal(err)
			}
			in[quantity{fmt.Sprintf("file %s", name), sizeOfFiles}] = float64(info.Size())
		}
	}
	k.forget = func() {}
}
