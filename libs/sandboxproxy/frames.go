package sandboxproxy

import "encoding/binary"

// opClose is the opcode of a close frame (RFC 6455, section 5.2).
const opClose = 0x8

// frames follows a WebSocket stream in one direction, to know where a frame ends. It does not look into frames, and takes every sequence
// of bytes: what they mean is for the ends to judge. The zero value stands before the first frame.
type frames struct {
	// header is that of the frame in progress as far as it has come.
	header [14]byte
	have   int
	// payload is what is still to come of the frame in progress.
	payload uint64
	// closed says that a close frame has begun.
	closed bool
}

// between reports whether one frame has ended and the next one has not begun.
func (f *frames) between() bool { return f.have == 0 && f.payload == 0 }

// pass takes in the next bytes of the stream.
func (f *frames) pass(b []byte) {
	for len(b) > 0 {
		b = b[f.step(b):]
	}
}

// rest returns how many of the next bytes belong to the frame in progress; all, if it does not end among them.
func (f *frames) rest(b []byte) int {
	g, n := *f, 0
	for n < len(b) && !g.between() {
		n += g.step(b[n:])
	}
	return n
}

// step takes in at least one byte, and never more than belong to one frame.
func (f *frames) step(b []byte) int {
	if f.payload > 0 {
		n := min(f.payload, uint64(len(b)))
		f.payload -= n
		return int(n)
	}
	f.header[f.have] = b[0]
	f.have++
	if f.have < 2 || f.have < f.headerSize() {
		return 1
	}
	f.payload = f.payloadSize()
	f.closed = f.closed || f.header[0]&0x0f == opClose
	f.have = 0
	return 1
}

// headerSize needs the first two bytes.
func (f *frames) headerSize() int {
	size := 2
	switch f.header[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if f.header[1]&0x80 != 0 {
		size += 4 // the mask
	}
	return size
}

func (f *frames) payloadSize() uint64 {
	switch n := f.header[1] & 0x7f; n {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.header[2:4]))
	case 127:
		return binary.BigEndian.Uint64(f.header[2:10])
	default:
		return uint64(n)
	}
}
