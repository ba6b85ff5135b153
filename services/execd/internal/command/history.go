package command

const (
	// maxHistory bounds what is remembered of finished foreground commands, in bytes: with it some 20,000 short ones.
	maxHistory = 16 << 20
	// recordSize is about what a record takes in memory besides the text of its command, in bytes.
	recordSize = 500
)

// history is the finished foreground commands that can be asked about, in the order of their ends. A sandbox may run a million in a day, or write
// files by them, and must not end for their memory.
type history struct {
	records []*record
	size    int // Of these, in bytes.
}

func (r *record) size() int { return recordSize + len(r.content) }

// add remembers one more and returns the ids of those that are forgotten for it.
func (h *history) add(rec *record) (forgotten []string) {
	h.records, h.size = append(h.records, rec), h.size+rec.size()
	return h.forget(func(*record) bool { return h.size > maxHistory })
}

// forget takes the oldest away while old says so, and returns their ids.
func (h *history) forget(old func(*record) bool) (ids []string) {
	for len(h.records) > 0 && old(h.records[0]) {
		rec := h.records[0]
		h.records[0] = nil
		h.records, h.size = h.records[1:], h.size-rec.size()
		ids = append(ids, rec.id)
	}
	return ids
}
