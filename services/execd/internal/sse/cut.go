package sse

import "unicode/utf8"

// CutText returns the largest n ≤ limit such that b[:n] does not end inside a UTF-8 sequence; b is returned whole when it is
// short enough. limit must be at least utf8.UTFMax.
func CutText[T ~string | ~[]byte](b T, limit int) int {
	if len(b) <= limit {
		return len(b)
	}
	for n := limit; n > limit-utf8.UTFMax; n-- {
		if utf8.RuneStart(b[n]) {
			return n
		}
	}
	return limit // Not UTF-8 anyway.
}
