package pid1

import (
	"errors"
	"strings"
)

// Split cuts a command line into words the way a shell does: blanks separate, single quotes keep everything, double quotes keep
// everything but backslashes before " \ $ and `, a backslash elsewhere keeps the next character. Nothing is expanded.
func Split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	started, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '\'' && c != '\'', quote == '"' && c != '"' && c != '\\':
			word.WriteByte(c)
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\':
			if i++; i >= len(line) {
				return nil, errors.New("trailing backslash")
			}
			if quote == '"' && !strings.ContainsRune("\"\\$`", rune(line[i])) {
				word.WriteByte('\\')
			}
			word.WriteByte(line[i])
			started = true
		case c == '\'' || c == '"':
			quote, started = c, true
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			if started {
				words = append(words, word.String())
			}
			word.Reset()
			started = false
		default:
			word.WriteByte(c)
			started = true
		}
	}
	if quote != 0 {
		return nil, errors.New("missing closing quote")
	}
	if started {
		words = append(words, word.String())
	}
	return words, nil
}
