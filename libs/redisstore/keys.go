package redisstore

import (
	"strconv"
	"strings"

	"opensandbox/libs/sandbox"
)

// keys names everything that one installation keeps. All keys that change together share a hash tag, so that they lie on one node of
// a cluster and one script can change them: osb:<installation>:{c0}:….
type keys struct{ base string }

func newKeys(installation string) keys { return keys{base: "osb:" + installation + ":"} }

// cell is the one place that decides in which part of the key space a record lives. There is one part: a record and the capacity of
// its node change in one script.
func (k keys) cell(sandbox.ID) string { return k.base + "{c0}:" }

func (k keys) shared() string { return k.cell("") }

// Keys that exist once.
func (k keys) meta() string      { return k.shared() + "meta" }
func (k keys) nodes() string     { return k.shared() + "nodes" }
func (k keys) leases() string    { return k.shared() + "leases" }
func (k keys) sessions() string  { return k.shared() + "sessions" }
func (k keys) deadlines() string { return k.shared() + "deadlines" }
func (k keys) attention() string { return k.shared() + "attention" }
func (k keys) ended() string     { return k.shared() + "ended" }
func (k keys) unplaced() string  { return k.shared() + "unplaced" }
func (k keys) images() string    { return k.shared() + "images" }
func (k keys) forgotten() string { return k.shared() + "forgotten" }
func (k keys) counts() string    { return k.shared() + "counts" }

// hints is what the names of all channels begin with.
func (k keys) hints() string { return k.shared() + "hints:" }

// channel returns where the hints of a topic go, and as what. Each topic has a channel, but those of all records share one, on which the id is
// the message.
func (k keys) channel(t sandbox.Topic) (channel, message string) {
	if id, ok := strings.CutPrefix(string(t), recordTopics); ok {
		return k.hints() + recordTopics, id
	}
	return k.hints() + string(t), ""
}

// topic is the reverse of channel.
func (k keys) topic(channel, message string) sandbox.Topic {
	return sandbox.Topic(strings.TrimPrefix(channel, k.hints()) + message)
}

// recordTopics is what the topics of all records begin with.
var recordTopics = string(sandbox.RecordTopic(""))

func (k keys) records() string             { return k.cell("") + "record:" }
func (k keys) record(id sandbox.ID) string { return k.cell(id) + "record:" + string(id) }

// secret is what travels beside a record.
func (k keys) secret(id sandbox.ID) string { return k.secrets() + string(id) }
func (k keys) secrets() string             { return k.cell("") + "secret:" }

// idempotent is an idempotency key of a tenant.
func (k keys) idempotent(tenant, name string) string {
	return k.shared() + "key:" + strconv.Itoa(len(tenant)) + ":" + tenant + ":" + name
}

// Keys of one node.
func (k keys) work(node string) string   { return k.shared() + "work:" + node }
func (k keys) placed(node string) string { return k.shared() + "placed:" + node }
func (k keys) mirrors() string           { return k.shared() + "mirror:" }
func (k keys) mirror(node string) string { return k.mirrors() + node }
func (k keys) used(node string) string   { return k.shared() + "used:" + node }
func (k keys) holds(node string) string  { return k.shared() + "holds:" + node }
func (k keys) ports(node string) string  { return k.shared() + "ports:" + node }
func (k keys) barred(node string) string { return k.shared() + "barred:" + node }

// list is the set of the visible records of a tenant in a state, and of those of them that carry a label. Tenant and key get their
// length in front, so that no two combinations have one name.
func (k keys) list(tenant string, st sandbox.State) string {
	return k.shared() + "list:" + strconv.Itoa(len(tenant)) + ":" + tenant + ":" + string(st)
}

func (k keys) label(tenant string, st sandbox.State, key, value string) string {
	return k.list(tenant, st) + ":" + strconv.Itoa(len(key)) + ":" + key + "=" + value
}

// countField is the field of the counts for the visible records of a node in a state. No state has a blank in its name.
func countField(r *sandbox.Record) string {
	node := ""
	if r.Placed() {
		node = r.Placement.Node
	}
	return string(sandbox.StateOf(r)) + " " + node
}

// holder names who holds an amount or a port.
func holder(id sandbox.ID, epoch uint64) string {
	return string(id) + ":" + strconv.FormatUint(epoch, 10)
}

// portList writes leases as inside=outside, in the order of the numbers inside.
func portList(ports map[int]int) string {
	parts := make([]string, 0, len(ports))
	for _, inside := range sortedKeys(ports) {
		parts = append(parts, strconv.Itoa(inside)+"="+strconv.Itoa(ports[inside]))
	}
	return strings.Join(parts, ",")
}

func parsePortList(s string) (map[int]int, bool) {
	if s == "" {
		return nil, true
	}
	out := map[int]int{}
	for part := range strings.SplitSeq(s, ",") {
		in, host, ok := strings.Cut(part, "=")
		a, errA := strconv.Atoi(in)
		b, errB := strconv.Atoi(host)
		if !ok || errA != nil || errB != nil {
			return nil, false
		}
		out[a] = b
	}
	return out, true
}
