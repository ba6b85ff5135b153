package redisstore

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/wakeup"
)

// schema is the version of what a record's hash holds. A record with another one is refused: to rewrite what one does not understand
// would lose parts of it.
const schema = "1"

// fields are what a record is read from: the body as JSON and, laid over it, what scripts change without reading the body: deadline,
// accepted, version and ports, and the time of creation, which the insert takes from the server.
var fields = []string{"b", "x", "a", "v", "p", "z", "c"}

// decode reads the values of fields. It gives sandbox.ErrNotFound for a record that does not exist.
func decode(id sandbox.ID, values []any) (*sandbox.Record, error) {
	v := make([]string, len(fields))
	for i := range v {
		if i < len(values) {
			v[i], _ = values[i].(string)
		}
	}
	body, deadline, accepted, version, ports, made, created := v[0], v[1], v[2], v[3], v[4], v[5], v[6]
	if version == "" {
		return nil, sandbox.ErrNotFound(id)
	}
	if made != schema {
		return nil, fault.Newf(fault.Internal, "the record was written by another version of this program (schema %q; this one knows %q)", made, schema).
			WithCode(sandbox.CodeNewerRecord).About(string(id))
	}
	var r sandbox.Record
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		return nil, errUnreadable(id, err)
	}
	var err error
	var ok bool
	r.Intent.Accepted = accepted == "1"
	if r.Version, err = strconv.ParseUint(version, 10, 64); err != nil {
		return nil, errUnreadable(id, fmt.Errorf("version: %w", err))
	}
	if r.Intent.ExpiresAt, err = parseMicros(deadline); err != nil {
		return nil, errUnreadable(id, fmt.Errorf("deadline: %w", err))
	}
	if r.CreatedAt, err = parseMicros(created); err != nil {
		return nil, errUnreadable(id, fmt.Errorf("creation: %w", err))
	}
	if r.Placement.Ports, ok = parsePortList(ports); !ok {
		return nil, errUnreadable(id, fmt.Errorf("ports: %q", ports))
	}
	return &r, nil
}

func errUnreadable(id sandbox.ID, why error) error {
	return fault.New(fault.Internal, "the stored record cannot be read").About(string(id)).Because(why)
}

// encoded are the arguments of save.lua for a record, in the order that it reads them.
func encoded(r *sandbox.Record) ([]any, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the record cannot be stored").Because(err)
	}
	accepted := "0"
	if r.Intent.Accepted {
		accepted = "1"
	}
	node := ""
	if r.Placed() {
		node = r.Placement.Node
	}
	return []any{string(body), micros(r.Intent.ExpiresAt), accepted, flags(r), node, portList(r.Placement.Ports), schema}, nil
}

// flags tell renew.lua and accept.lua what they may do without reading the body.
func flags(r *sandbox.Record) string {
	switch {
	case r.Gone() || r.Ended() || r.FailedCreate():
		return "stopping"
	case r.Intent.ExpiresAt.IsZero():
		return "endless"
	}
	return ""
}

// exact is the largest number up to which the scores of sorted sets are whole numbers: microseconds until the year 2255.
const exact = 1 << 53

// micros writes a time, rounded up so that nothing is due before its time; "" is never.
func micros(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	m := t.UnixMicro()
	if t.Nanosecond()%1000 != 0 {
		m++
	}
	return strconv.FormatInt(m, 10)
}

// score writes a time as a score, rounded up to what a score can hold.
func score(t time.Time) string {
	s := micros(t)
	if m, err := strconv.ParseInt(s, 10, 64); err == nil && m > exact {
		return strconv.FormatFloat(math.Nextafter(float64(m), math.Inf(1)), 'f', 0, 64)
	}
	return s
}

func parseMicros(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	m, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	return time.UnixMicro(m).UTC(), nil
}

// places returns the sorted sets that a record is in, with its score in each.
func (k keys) places(r *sandbox.Record) map[string]string {
	out := map[string]string{}
	if r == nil {
		return out
	}
	for key, t := range map[string]time.Time{k.deadlines(): wakeup.Deadline(r), k.attention(): r.AttentionAt(), k.ended(): r.ForgetFrom()} {
		if !t.IsZero() {
			out[key] = score(t)
		}
	}
	created := score(r.CreatedAt)
	if r.Unplaced() {
		out[k.unplaced()] = created
	}
	if r.Placed() {
		out[k.placed(r.Placement.Node)] = "0"
	}
	if r.Visible() {
		st := sandbox.StateOf(r)
		out[k.list(r.Tenant, st)] = created
		for key, value := range r.Intent.Metadata {
			out[k.label(r.Tenant, st, key, value)] = created
		}
	}
	return out
}

func sortedKeys[K ~int | ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
