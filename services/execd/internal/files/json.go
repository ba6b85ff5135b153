package files

import (
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"opensandbox/services/execd/internal/sse"
)

// AppendJSON appends what encoding/json makes of i, except that U+0085 is escaped too: some readers cut lines there. A listing has a
// hundred thousand of them, and reflection would take longer than to find the files.
func (i Info) AppendJSON(dst []byte) ([]byte, error) {
	dst = appendText(append(dst, `{"path":`...), i.Path)
	dst = appendText(append(dst, `,"type":`...), i.Type)
	dst = strconv.AppendInt(append(dst, `,"size":`...), i.Size, 10)
	dst, err := appendTime(append(dst, `,"modified_at":`...), i.ModifiedAt)
	if err != nil {
		return dst, err
	}
	if dst, err = appendTime(append(dst, `,"created_at":`...), i.CreatedAt); err != nil {
		return dst, err
	}
	dst = appendText(append(dst, `,"owner":`...), i.Owner)
	dst = appendText(append(dst, `,"group":`...), i.Group)
	dst = strconv.AppendInt(append(dst, `,"mode":`...), int64(i.Mode), 10)
	return append(dst, '}'), nil
}

func appendTime(dst []byte, t time.Time) ([]byte, error) {
	dst, err := t.AppendText(append(dst, '"'))
	return append(dst, '"'), err
}

// appendText leaves everything but ordinary ASCII to encoding/json.
func appendText(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			b, err := json.Marshal(s)
			if err != nil {
				return append(dst, `""`...) // It has no error for a string.
			}
			return append(dst, sse.EscapeNEL(b)...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
