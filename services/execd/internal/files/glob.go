package files

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxAlternatives bounds what nested braces may multiply to.
const maxAlternatives = 1024

// maxPattern bounds a pattern, in bytes.
const maxPattern = 4096

// Pattern is a compiled search pattern. It is matched against base names only.
type Pattern struct {
	alternatives []alternative
	negated      bool
}

// alternative is a pattern without braces. Names end with the text of most of those that people write: such names need not be taken
// apart into runes.
type alternative struct {
	tokens []token
	// suffix is what must follow any text; it means nothing unless simple is set.
	suffix string
	simple bool
}

func newAlternative(tokens []token) alternative {
	a := alternative{tokens: tokens, simple: len(tokens) > 0 && tokens[0].any}
	if !a.simple {
		return a
	}
	suffix := make([]byte, 0, len(tokens))
	for _, t := range tokens[1:] {
		// Others than ASCII may stand for bytes that are not UTF-8.
		if t.any || t.one || t.class != nil || t.literal >= utf8.RuneSelf {
			return alternative{tokens: tokens}
		}
		suffix = append(suffix, byte(t.literal))
	}
	a.suffix = string(suffix)
	return a
}

// token matches one rune, or any number of them.
type token struct {
	any, one bool // * and ?
	literal  rune
	class    *class
}

type class struct {
	negated bool
	ranges  [][2]rune
}

// CompilePattern reads a pattern in the language of OpenSandbox 1.1.1: * and ** any text, ? one character, [abc], [a-z], [!x] and
// [^x] classes, {a,b{c,d}} alternatives, \x a literal, and !(x), which inverts the match of the pattern with x in its place.
// A leading **/ is dropped; any other separator makes the pattern match nothing.
func CompilePattern(pattern string) (*Pattern, error) {
	if len(pattern) > maxPattern {
		return nil, errors.New("bad pattern: too long")
	}
	inlined, negated, err := inlineNegations(pattern)
	if err != nil {
		return nil, err
	}
	texts, err := expandBraces(inlined)
	if err != nil {
		return nil, err
	}
	p := &Pattern{negated: negated}
	for _, text := range texts {
		for strings.HasPrefix(text, "**/") {
			text = text[3:]
		}
		tokens, err := tokenize(text)
		if err != nil {
			return nil, err
		}
		p.alternatives = append(p.alternatives, newAlternative(tokens))
	}
	return p, nil
}

// Match reports whether a base name matches.
func (p *Pattern) Match(name string) bool {
	var runes []rune
	for _, a := range p.alternatives {
		if a.simple {
			if strings.HasSuffix(name, a.suffix) {
				return !p.negated
			}
			continue
		}
		if runes == nil {
			runes = []rune(name)
		}
		if matchTokens(a.tokens, runes) {
			return !p.negated
		}
	}
	return p.negated
}

// matchTokens remembers only the last star: what an earlier one could still try, the later one covers. So the time is at most
// length times length, whatever the pattern.
func matchTokens(tokens []token, name []rune) bool {
	ti, ni := 0, 0
	starT, starN := -1, 0
	for ni < len(name) {
		switch {
		case ti < len(tokens) && tokens[ti].any:
			starT, starN = ti, ni
			ti++
		case ti < len(tokens) && tokens[ti].matches(name[ni]):
			ti++
			ni++
		case starT >= 0:
			starN++
			ti, ni = starT+1, starN
		default:
			return false
		}
	}
	for ti < len(tokens) && tokens[ti].any {
		ti++
	}
	return ti == len(tokens)
}

func (t token) matches(r rune) bool {
	switch {
	case t.one:
		return true
	case t.class != nil:
		return t.class.matches(r)
	default:
		return t.literal == r
	}
}

func (c *class) matches(r rune) bool {
	for _, span := range c.ranges {
		if span[0] <= r && r <= span[1] {
			return !c.negated
		}
	}
	return c.negated
}

// skip returns the index after the element at i: an escaped character, a class, or one byte. Braces and parentheses inside
// classes are ordinary.
func skip(s string, i int) (int, error) {
	switch s[i] {
	case '\\':
		if i+1 >= len(s) {
			return 0, errors.New("bad pattern: trailing backslash")
		}
		_, size := utf8.DecodeRuneInString(s[i+1:])
		return i + 1 + size, nil
	case '[':
		_, end, err := parseClass(s, i)
		return end, err
	default:
		return i + 1, nil
	}
}

// inlineNegations takes the marks of !(x) away and reports whether there were any.
func inlineNegations(s string) (string, bool, error) {
	var b strings.Builder
	depth, negated := 0, false
	for i := 0; i < len(s); {
		if strings.HasPrefix(s[i:], "!(") {
			depth, negated = depth+1, true
			i += 2
			continue
		}
		if s[i] == ')' && depth > 0 {
			depth--
			i++
			continue
		}
		end, err := skip(s, i)
		if err != nil {
			return "", false, err
		}
		b.WriteString(s[i:end])
		i = end
	}
	if depth > 0 {
		return "", false, errors.New("bad pattern: !( without )")
	}
	return b.String(), negated, nil
}

// expandBraces returns every alternative of s.
func expandBraces(s string) ([]string, error) {
	out, rest, err := expandSequence(s, false, 0)
	if err != nil {
		return nil, err
	}
	if rest != "" {
		return nil, errors.New("bad pattern: } without {")
	}
	return out, nil
}

// expandSequence reads up to the end of s or, inside braces, up to a comma or closing brace, which it leaves in rest.
func expandSequence(s string, inside bool, depth int) (out []string, rest string, err error) {
	if depth > 32 {
		return nil, "", errors.New("bad pattern: braces are nested too deeply")
	}
	out = []string{""}
	for s != "" {
		if s[0] == '}' || s[0] == ',' && inside {
			return out, s, nil
		}
		if s[0] != '{' {
			end, err := skip(s, 0)
			if err != nil {
				return nil, "", err
			}
			for i := range out {
				out[i] += s[:end]
			}
			s = s[end:]
			continue
		}
		var group []string
		if group, s, err = expandGroup(s[1:], depth+1); err != nil {
			return nil, "", err
		}
		if len(out)*len(group) > maxAlternatives {
			return nil, "", fmt.Errorf("bad pattern: more than %d alternatives", maxAlternatives)
		}
		product := make([]string, 0, len(out)*len(group))
		for _, a := range out {
			for _, b := range group {
				product = append(product, a+b)
			}
		}
		out = product
	}
	return out, "", nil
}

// expandGroup reads the alternatives after an opening brace and the closing brace.
func expandGroup(s string, depth int) (group []string, rest string, err error) {
	for {
		part, after, err := expandSequence(s, true, depth)
		if err != nil {
			return nil, "", err
		}
		if group = append(group, part...); len(group) > maxAlternatives {
			return nil, "", fmt.Errorf("bad pattern: more than %d alternatives", maxAlternatives)
		}
		if after == "" {
			return nil, "", errors.New("bad pattern: { without }")
		}
		s = after[1:]
		if after[0] == '}' {
			return group, s, nil
		}
	}
}

func tokenize(s string) ([]token, error) {
	var out []token
	for i := 0; i < len(s); {
		switch s[i] {
		case '*':
			if len(out) == 0 || !out[len(out)-1].any {
				out = append(out, token{any: true})
			}
			i++
		case '?':
			out = append(out, token{one: true})
			i++
		case '[':
			c, end, err := parseClass(s, i)
			if err != nil {
				return nil, err
			}
			out = append(out, token{class: c})
			i = end
		case '\\':
			end, err := skip(s, i)
			if err != nil {
				return nil, err
			}
			r, _ := utf8.DecodeRuneInString(s[i+1:])
			out = append(out, token{literal: r})
			i = end
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			out = append(out, token{literal: r})
			i += size
		}
	}
	return out, nil
}

// parseClass reads the class that starts at s[i] and returns the index after it. A ] right at the start is a member.
func parseClass(s string, i int) (*class, int, error) {
	c := &class{}
	i++
	if i < len(s) && (s[i] == '!' || s[i] == '^') {
		c.negated = true
		i++
	}
	for first := true; ; first = false {
		if i >= len(s) {
			return nil, 0, errors.New("bad pattern: [ without ]")
		}
		if s[i] == ']' && !first {
			return c, i + 1, nil
		}
		lo, next, err := classRune(s, i)
		if err != nil {
			return nil, 0, err
		}
		hi := lo
		if next+1 < len(s) && s[next] == '-' && s[next+1] != ']' {
			if hi, next, err = classRune(s, next+1); err != nil {
				return nil, 0, err
			}
		}
		if hi < lo {
			return nil, 0, errors.New("bad pattern: range ends before it begins")
		}
		c.ranges = append(c.ranges, [2]rune{lo, hi})
		i = next
	}
}

func classRune(s string, i int) (rune, int, error) {
	if s[i] == '\\' {
		i++
		if i >= len(s) {
			return 0, 0, errors.New("bad pattern: trailing backslash")
		}
	}
	r, size := utf8.DecodeRuneInString(s[i:])
	return r, i + size, nil
}
