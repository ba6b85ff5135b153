package sqlitestore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Get implements sandbox.Queries.
func (s *Store) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	if err := s.check(ctx); err != nil {
		return sandbox.Record{}, err
	}
	cached, count := s.cache.get(id)
	if cached != nil {
		return cached.Clone(), nil
	}
	r, err := s.read(ctx, s.reads.load, id)
	if err != nil {
		return sandbox.Record{}, s.failed("get", err)
	}
	s.cache.fill(r, count)
	return r.Clone(), nil
}

// read returns a record from the file.
func (s *Store) read(ctx context.Context, load *sql.Stmt, id sandbox.ID) (*sandbox.Record, error) {
	var body []byte
	err := load.QueryRowContext(ctx, string(id)).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, sandbox.ErrNotFound(id)
	}
	if err != nil {
		return nil, err
	}
	return decode(id, body)
}

// versioned names one state of a record.
type versioned struct {
	id      sandbox.ID
	version int64
}

// records returns the records that a query of ids and versions finds.
func (s *Store) records(ctx context.Context, op string, stmt *sql.Stmt, args ...any) ([]sandbox.Record, error) {
	var out []sandbox.Record
	err := s.view(ctx, op, func(q *snapshot) error {
		rows, err := q.StmtContext(ctx, stmt).QueryContext(ctx, args...)
		if err != nil {
			return err
		}
		found, err := scanVersions(rows)
		if err != nil {
			return err
		}
		out, err = q.bodies(ctx, found)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func scanVersions(rows *sql.Rows) (out []versioned, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var v versioned
		if err := rows.Scan(&v.id, &v.version); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// bodies returns copies of records as the transaction sees them: from the cache where it has that very version.
func (q *snapshot) bodies(ctx context.Context, found []versioned) ([]sandbox.Record, error) {
	out := make([]sandbox.Record, 0, len(found))
	var load *sql.Stmt
	for _, v := range found {
		cached, _ := q.cache.get(v.id)
		if cached != nil && cached.Version == uint64(v.version) {
			out = append(out, cached.Clone())
			continue
		}
		if load == nil {
			load = q.StmtContext(ctx, q.reads.load)
		}
		r, err := q.read(ctx, load, v.id)
		if err != nil {
			return nil, err
		}
		q.cache.fill(r, q.commits)
		out = append(out, r.Clone())
	}
	return out, nil
}

// List implements sandbox.Queries. fault.Invalid for an offset or limit out of range.
func (s *Store) List(ctx context.Context, q sandbox.Query) (sandbox.Page, error) {
	if q.Limit < 1 || q.Offset < 0 {
		return sandbox.Page{}, fault.New(fault.Invalid, "a page has at least one item and does not start before the first")
	}
	var page sandbox.Page
	err := s.view(ctx, "list", func(tx *snapshot) error {
		keys, err := tx.rarestFirst(ctx, q)
		if err != nil {
			return err
		}
		from, args := listSource(q, keys)
		if err := tx.QueryRowContext(ctx, `SELECT count(*) `+from, args...).Scan(&page.Total); err != nil {
			return err
		}
		if q.Offset >= page.Total {
			return nil
		}
		text := `SELECT s.id, s.version FROM (SELECT l.id, l.created_at ` + from +
			` ORDER BY l.created_at DESC, l.id DESC LIMIT ? OFFSET ?) p JOIN osb_sandbox s ON s.id = p.id ORDER BY p.created_at DESC, p.id DESC`
		rows, err := tx.QueryContext(ctx, text, append(args, q.Limit, q.Offset)...)
		if err != nil {
			return err
		}
		found, err := scanVersions(rows)
		if err != nil {
			return err
		}
		page.Items, err = tx.bodies(ctx, found)
		return err
	})
	if err != nil {
		return sandbox.Page{}, err
	}
	return page, nil
}

// rarestFirst returns the keys of the metadata that a list asks for, the one with the fewest records first.
func (q *snapshot) rarestFirst(ctx context.Context, query sandbox.Query) ([]string, error) {
	keys := slices.Sorted(maps.Keys(query.Metadata))
	if len(keys) < 2 {
		return keys, nil
	}
	count := make(map[string]int, len(keys))
	for _, k := range keys {
		var n int
		err := q.QueryRowContext(ctx, `SELECT count(*) FROM osb_label WHERE tenant = ? AND key = ? AND value = ?`,
			query.Tenant, k, query.Metadata[k]).Scan(&n)
		if err != nil {
			return nil, err
		}
		count[k] = n
	}
	slices.SortStableFunc(keys, func(a, b string) int { return cmp.Compare(count[a], count[b]) })
	return keys, nil
}

// listSource returns the part of a query that says which rows l (with id and created_at) match, and its arguments. Without
// metadata it walks the list index; with metadata the labels of the first key, which hold visible records only.
func listSource(q sandbox.Query, keys []string) (from string, args []any) {
	var b strings.Builder
	if len(keys) == 0 {
		b.WriteString(`FROM osb_sandbox l WHERE l.tenant = ? AND l.visible = 1`)
		args = append(args, q.Tenant)
		if len(q.States) > 0 {
			fmt.Fprintf(&b, ` AND l.state IN (%s)`, marks(len(q.States)))
			args = appendStates(args, q.States)
		}
		return b.String(), args
	}
	b.WriteString(`FROM osb_label l WHERE l.tenant = ? AND l.key = ? AND l.value = ?`)
	args = append(args, q.Tenant, keys[0], q.Metadata[keys[0]])
	for _, k := range keys[1:] {
		b.WriteString(` AND EXISTS (SELECT 1 FROM osb_label m WHERE m.tenant = l.tenant AND m.key = ? AND m.value = ?` +
			` AND m.created_at = l.created_at AND m.id = l.id)`)
		args = append(args, k, q.Metadata[k])
	}
	if len(q.States) > 0 {
		fmt.Fprintf(&b, ` AND EXISTS (SELECT 1 FROM osb_sandbox s INDEXED BY osb_sandbox_list WHERE s.tenant = l.tenant`+
			` AND s.created_at = l.created_at AND s.id = l.id AND s.visible = 1 AND s.state IN (%s))`, marks(len(q.States)))
		args = appendStates(args, q.States)
	}
	return b.String(), args
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

func appendStates(args []any, states []sandbox.State) []any {
	for _, st := range states {
		args = append(args, string(st))
	}
	return args
}

// Incarnation implements sandbox.Queries.
func (s *Store) Incarnation(ctx context.Context) (time.Time, error) {
	text, err := s.meta(ctx, keyIncarnation)
	if err != nil {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	return at, s.failed("incarnation", err)
}

// Now implements sandbox.Queries.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if err := s.check(ctx); err != nil {
		return time.Time{}, err
	}
	return s.now(), nil
}

// Counts returns how many visible records there are of each node and state; what is missing is 0. Records that hold nothing on a node
// have none.
func (s *Store) Counts(ctx context.Context) (out map[struct {
	Node  string
	State sandbox.State
}]int, err error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	rows, err := s.reads.counts.QueryContext(ctx)
	if err != nil {
		return nil, s.failed("counts", err)
	}
	defer func() { err = s.failed("counts", errors.Join(err, rows.Close())) }()
	out = map[struct {
		Node  string
		State sandbox.State
	}]int{}
	for rows.Next() {
		var k struct {
			Node  string
			State sandbox.State
		}
		var n int
		if err := rows.Scan(&k.Node, &k.State, &n); err != nil {
			return nil, err
		}
		out[k] = n
	}
	return out, rows.Err()
}
