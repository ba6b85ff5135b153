package command

import "fmt"

// memoryBacklog bounds what one stream keeps in memory for a sink that does not take it: 256 KiB for the two of a command.
const memoryBacklog = 128 << 10

// backlog is output that has left the pipe and waits for the sink: the oldest in memory, then what is in the file, then what the
// file could not take. It is not safe for concurrent use.
type backlog struct {
	memory []byte
	file   spillFile
	rest   []byte
}

// room reports whether more may be taken out of the pipe: whatever add gets is kept.
func (k *backlog) room() bool {
	if len(k.rest) > 0 {
		k.rest = k.rest[k.file.write(k.rest):]
	}
	return len(k.rest) == 0
}

// add appends a copy of b. What neither memory nor file can take stays in memory all the same, and then there is no room any more.
func (k *backlog) add(b []byte) {
	if k.file.size() == 0 && len(k.rest) == 0 {
		n := min(len(b), memoryBacklog-len(k.memory))
		k.memory = append(k.memory, b[:n]...)
		b = b[n:]
	}
	if len(b) > 0 && len(k.rest) == 0 {
		b = b[k.file.write(b):]
	}
	k.rest = append(k.rest, b...)
}

// empty reports whether nothing waits.
func (k *backlog) empty() bool { return len(k.memory) == 0 && k.file.size() == 0 && len(k.rest) == 0 }

// read takes the oldest bytes out. An error means that output is lost.
func (k *backlog) read(b []byte) (n int, err error) {
	switch {
	case len(k.memory) > 0:
		n = copy(b, k.memory)
		k.memory = k.memory[n:]
		if len(k.memory) == 0 {
			k.memory = nil // The next stall may never come.
		}
	case k.file.size() > 0:
		if n, err = k.file.read(b); err != nil {
			return 0, fmt.Errorf("output that waited for its reader is lost: %w", err)
		}
	default:
		n = copy(b, k.rest)
		k.rest = k.rest[n:]
	}
	return n, nil
}

// drop forgets everything and gives back memory and disk.
func (k *backlog) drop() {
	k.memory, k.rest = nil, nil
	k.file.close()
}
