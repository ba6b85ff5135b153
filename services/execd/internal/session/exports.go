package session

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var errUnfinished = errors.New("a quoted string without its end")

// exports reads what `export -p` prints: one statement for each variable, "declare -x NAME=value" in bash, "export NAME=value" in
// POSIX shells, with the value quoted in any of the ways of a shell. Variables without a value and arrays are left out: they are
// not in the environment of a program either.
func exports(text string) (env []string, err error) {
	for at := 0; at < len(text); {
		var words []string
		if words, at, err = statement(text, at); err != nil {
			return nil, err
		}
		if len(words) == 0 {
			continue
		}
		if words[0] != "declare" && words[0] != "export" && words[0] != "typeset" {
			return nil, fmt.Errorf("%.20q is no export", words[0])
		}
		words = words[1:]
		array := false
		for len(words) > 0 && strings.HasPrefix(words[0], "-") {
			array = array || strings.ContainsAny(words[0], "aA")
			words = words[1:]
		}
		if array || len(words) == 0 || !strings.Contains(words[0], "=") || strings.Contains(words[0], "\x00") {
			continue
		}
		env = append(env, words[0])
	}
	return env, nil
}

// statement reads the words up to the next newline or semicolon outside quotes, and returns where the next statement begins.
func statement(s string, at int) (words []string, next int, err error) {
	for at < len(s) {
		switch s[at] {
		case ' ', '\t':
			at++
		case '\n', ';':
			return words, at + 1, nil
		default:
			var w string
			if w, at, err = word(s, at); err != nil {
				return nil, 0, err
			}
			words = append(words, w)
		}
	}
	return words, at, nil
}

// word reads one word, quotes taken off.
func word(s string, at int) (w string, next int, err error) {
	var b strings.Builder
	for at < len(s) {
		switch c := s[at]; {
		case c == ' ' || c == '\t' || c == '\n' || c == ';':
			return b.String(), at, nil
		case c == '\'':
			end := strings.IndexByte(s[at+1:], '\'')
			if end < 0 {
				return "", 0, errUnfinished
			}
			b.WriteString(s[at+1 : at+1+end])
			at += end + 2
		case c == '"':
			at, err = doubleQuoted(&b, s, at+1)
		case c == '$' && strings.HasPrefix(s[at+1:], "'"):
			at, err = ansiQuoted(&b, s, at+2)
		case c == '\\' && at+1 < len(s):
			b.WriteByte(s[at+1])
			at += 2
		default:
			b.WriteByte(c)
			at++
		}
		if err != nil {
			return "", 0, err
		}
	}
	return b.String(), at, nil
}

// doubleQuoted reads up to the closing quote. A backslash is one unless it stands before a character that is special here.
func doubleQuoted(b *strings.Builder, s string, at int) (next int, err error) {
	for ; at < len(s); at++ {
		switch c := s[at]; {
		case c == '"':
			return at + 1, nil
		case c == '\\' && at+1 < len(s) && strings.IndexByte("$`\"\\\n", s[at+1]) >= 0:
			at++
			if s[at] != '\n' {
				b.WriteByte(s[at])
			}
		default:
			b.WriteByte(c)
		}
	}
	return 0, errUnfinished
}

// simpleEscapes are the escapes of $'…' that stand for one byte.
var simpleEscapes = map[byte]byte{
	'a': 7, 'b': 8, 'e': 27, 'E': 27, 'f': 12, 'n': '\n', 'r': '\r', 't': '\t', 'v': 11, '\\': '\\', '\'': '\'', '"': '"', '?': '?',
}

// ansiQuoted reads the inside of $'…' up to its end.
func ansiQuoted(b *strings.Builder, s string, at int) (next int, err error) {
	for at < len(s) {
		c := s[at]
		at++
		if c == '\'' {
			return at, nil
		}
		if c != '\\' || at == len(s) {
			b.WriteByte(c)
			continue
		}
		c = s[at]
		if plain, ok := simpleEscapes[c]; ok {
			b.WriteByte(plain)
			at++
			continue
		}
		at = numericEscape(b, s, at)
	}
	return 0, errUnfinished
}

// numericEscape reads \nnn, \xHH, \uHHHH, \UHHHHHHHH and \cx from behind the backslash. Anything else keeps its backslash.
func numericEscape(b *strings.Builder, s string, at int) (next int) {
	digits := func(from, most, base int) (v uint64, end int) {
		end = from
		for end < len(s) && end-from < most {
			if _, err := strconv.ParseUint(s[end:end+1], base, 8); err != nil {
				break
			}
			end++
		}
		v, _ = strconv.ParseUint(s[from:end], base, 32)
		return v, end
	}
	most := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[at]]
	switch {
	case '0' <= s[at] && s[at] <= '7':
		v, end := digits(at, 3, 8)
		b.WriteByte(byte(v))
		return end
	case most > 0:
		v, end := digits(at+1, most, 16)
		if end == at+1 {
			break
		}
		if most == 2 {
			b.WriteByte(byte(v))
		} else {
			b.WriteRune(rune(v))
		}
		return end
	case s[at] == 'c' && at+1 < len(s):
		b.WriteByte(s[at+1] & 0x1f)
		return at + 2
	}
	b.WriteByte('\\')
	b.WriteByte(s[at])
	return at + 1
}
