package wakeup

import (
	"reflect"
	"time"

	"opensandbox/libs/sandbox"
)

// Of returns the hints that a change of one record asks for, TopicDeadline aside: that one depends on all records, see Earlier.
// before is nil for an insert. A renewal or a metadata patch gives none.
func Of(before, after *sandbox.Record) []sandbox.Topic {
	if before == nil {
		// What a new record asks for is no change to anybody: nobody waits for what there was not.
		before = &sandbox.Record{ID: after.ID, Intent: sandbox.Intent{Desired: after.Intent.Desired, Generation: after.Intent.Generation}}
	}
	var topics []sandbox.Topic
	if moved(before, after) {
		topics = append(topics, sandbox.RecordTopic(after.ID))
	}
	if NewWork(before, after) {
		topics = append(topics, sandbox.WorkTopic(after.Placement.Node))
	}
	if after.Unplaced() && (before.Version == 0 || !before.Unplaced()) {
		topics = append(topics, sandbox.TopicPlacement)
	}
	return topics
}

// moved reports a change of what waiters look at: what is desired, where it is, what was seen, and whether it has ended. That it has got a
// place is nothing yet: there it is only when something was seen.
func moved(before, after *sandbox.Record) bool {
	return before.Intent.Desired != after.Intent.Desired ||
		before.Intent.Generation != after.Intent.Generation ||
		!before.EndedAt.Equal(after.EndedAt) ||
		before.Placed() && !reflect.DeepEqual(before.Placement, after.Placement) ||
		!reflect.DeepEqual(before.Observed, after.Observed)
}

// NewWork reports whether after asks something of its node's agent that before did not. Work that is already known keeps its
// place in the queue.
func NewWork(before, after *sandbox.Record) bool {
	if !after.NeedsWork() {
		return false
	}
	return !before.NeedsWork() ||
		before.Intent.Generation != after.Intent.Generation ||
		before.Placement.Node != after.Placement.Node ||
		before.Placement.Epoch != after.Placement.Epoch
}

// Deadline returns when the record is due to be set Gone; zero means never.
func Deadline(r *sandbox.Record) time.Time {
	if r.Gone() {
		return time.Time{}
	}
	return r.Intent.ExpiresAt
}

// Earlier reports whether t comes before head, where zero means never.
func Earlier(t, head time.Time) bool {
	return !t.IsZero() && (head.IsZero() || t.Before(head))
}
