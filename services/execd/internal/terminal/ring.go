package terminal

const (
	// ringSize is how much output is kept for clients that come later, as in OpenSandbox 1.1.1.
	ringSize = 1 << 20
	// ringStart is the memory that a terminal begins with: most print little.
	ringStart = 4 << 10
)

// ring keeps the last output of a session. Offsets count from the beginning of the session. Not for concurrent use.
type ring struct {
	// The byte at offset o is at o % ringSize. So as long as nothing was overwritten, buf may be shorter than that.
	buf   []byte
	total int64
}

// add appends b, and forgets the oldest bytes in its favour.
func (r *ring) add(b []byte) {
	if over := len(b) - ringSize; over > 0 {
		r.total += int64(over)
		b = b[over:]
	}
	r.grow(min(r.total+int64(len(b)), ringSize))
	for len(b) > 0 {
		n := copy(r.buf[r.total%ringSize:], b)
		b = b[n:]
		r.total += int64(n)
	}
}

func (r *ring) grow(need int64) {
	if int64(len(r.buf)) >= need {
		return
	}
	size := max(int64(len(r.buf)), ringStart)
	for size < need {
		size *= 2
	}
	buf := make([]byte, min(size, ringSize))
	copy(buf, r.buf)
	r.buf = buf
}

// from returns a copy of at most limit bytes from offset since on, and the offset of the first of them: the oldest that there is, if
// since is older.
func (r *ring) from(since int64, limit int) (b []byte, offset int64) {
	offset = min(max(since, r.total-ringSize, 0), r.total)
	n := min(r.total-offset, int64(limit))
	b = make([]byte, 0, n)
	for at := offset; at < offset+n; {
		i := at % ringSize
		part := r.buf[i:min(int64(len(r.buf)), i+offset+n-at)]
		b = append(b, part...)
		at += int64(len(part))
	}
	return b, offset
}
