package sse

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

const hex = "0123456789abcdef"

// appendString appends b as a JSON string. Invalid UTF-8 becomes U+FFFD byte by byte. Besides what JSON demands it escapes <, >
// and &, as OpenSandbox 1.1.1 does, and U+0085, U+2028 and U+2029, at which some readers of this stream would cut a line.
func appendString(dst, b []byte) []byte {
	return append(appendEscaped(append(dst, '"'), b), '"')
}

// appendEscaped is appendString without the quotes.
func appendEscaped(dst, b []byte) []byte {
	start := 0
	for i := 0; i < len(b); {
		if i += plainRun(b[i:]); i == len(b) {
			break
		}
		c := b[i]
		if c < utf8.RuneSelf {
			dst = append(dst, b[start:i]...)
			dst = appendEscape(dst, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(b[i:])
		bad := r == utf8.RuneError && size == 1
		if !bad && r != '\u0085' && r != '\u2028' && r != '\u2029' {
			i += size
			continue
		}
		dst = append(dst, b[start:i]...)
		if bad {
			r = utf8.RuneError
		}
		dst = append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		i += size
		start = i
	}
	return append(dst, b[start:]...)
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	default:
		return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	}
}

// plain marks the ASCII bytes that need no escape.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := range t {
		t[c] = c >= 0x20 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' && c != 0x7f
	}
	return t
}()

// EscapeNEL escapes U+0085 in JSON text, which encoding/json leaves as it is: some readers cut lines there.
func EscapeNEL(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\u0085"), []byte(`\u0085`)) }

// plainRun returns how many bytes at the beginning of b are plain. It looks at eight at once: output is mostly such bytes, and the rest
// of what is done for an event does not look at each.
func plainRun(b []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(b)-i >= 8; i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		// The high bit of a byte is set where x is below a space; " or &; < or >; \; 0x7f; not ASCII. A borrow or a carry reaches only bytes
		// above one that is marked already.
		marks := x - 0x20*ones | ((x | 0x04*ones) ^ '&'*ones - ones) | ((x | 0x02*ones) ^ '>'*ones - ones) | (x ^ '\\'*ones - ones) | (x + ones) | x
		if marks &= highs; marks != 0 {
			return i + bits.TrailingZeros64(marks)/8
		}
	}
	for i < len(b) && b[i] < utf8.RuneSelf && plain[b[i]] {
		i++
	}
	return i
}
