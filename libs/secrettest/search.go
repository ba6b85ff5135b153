package secrettest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
)

// head is how much of a form is looked up at each place of a text.
const head = 8

// Finding is a secret that a text has in it.
type Finding struct {
	// Name is that of the secret, Form how it is written there.
	Name, Form string
	// Line is that of its start, from 1 on.
	Line int
}

// String names the secret and the place, and does not show the secret.
func (f Finding) String() string { return fmt.Sprintf("%s (%s) in line %d", f.Name, f.Form, f.Line) }

// Search looks for many secrets at once. It may be used concurrently.
type Search struct {
	// forms are all that may be written for a secret, by the start of it.
	forms map[[head]byte][]form
}

type form struct{ name, kind, text string }

// NewSearch returns the search for secrets, whose names are given by their values, each of at least MinLength bytes.
func NewSearch(secrets map[string]string) *Search {
	s := &Search{forms: map[[head]byte][]form{}}
	for secret, name := range secrets {
		seen := map[string]bool{}
		for _, f := range forms(secret) {
			if !seen[f.text] {
				seen[f.text] = true
				f.name = name
				key := [head]byte([]byte(f.text))
				s.forms[key] = append(s.forms[key], f)
			}
		}
	}
	return s
}

// forms returns a secret as it is, quoted as Go, JSON and URLs do, and in base64 at each of the three places that it can have in groups of
// three bytes.
func forms(secret string) []form {
	quoted := strconv.Quote(secret)
	all := []form{{kind: "as it is", text: secret}, {kind: "quoted", text: quoted[1 : len(quoted)-1]}}
	for _, html := range []bool{true, false} {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(html)
		if err := e.Encode(secret); err == nil { // of a string it never fails
			text := strings.TrimSuffix(b.String(), "\n")
			all = append(all, form{kind: "as JSON", text: text[1 : len(text)-1]})
		}
	}
	for _, escaped := range []string{url.QueryEscape(secret), url.PathEscape(secret), url.UserPassword("", secret).String()[1:]} {
		all = append(all, form{kind: "escaped for a URL", text: escaped}, form{kind: "escaped for a URL", text: lowerHex(escaped)})
	}
	for before := range 3 {
		for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := alphabet.EncodeToString(append(make([]byte, before), secret...))
			// The first letters have bits of what stands before; the last one, of what comes after, unless the group is full.
			text = text[(before*8+5)/6:]
			if (before+len(secret))%3 != 0 {
				text = text[:len(text)-1]
			}
			all = append(all, form{kind: "as base64", text: text})
		}
	}
	return all
}

// lowerHex writes the digits of %XX small, as some do.
func lowerHex(escaped string) string {
	b := []byte(escaped)
	for i := range b {
		if b[i] == '%' && i+2 < len(b) {
			copy(b[i+1:i+3], bytes.ToLower(b[i+1:i+3]))
		}
	}
	return string(b)
}

// In returns each place where a text has a secret in it, from its start to its end.
func (s *Search) In(text []byte) []Finding {
	var found []Finding
	line, counted := 1, 0
	for i := 0; i+head <= len(text); i++ {
		for _, f := range s.forms[[head]byte(text[i:])] {
			if bytes.HasPrefix(text[i:], []byte(f.text)) {
				line += bytes.Count(text[counted:i], []byte("\n"))
				counted = i
				found = append(found, Finding{Name: f.name, Form: f.kind, Line: line})
			}
		}
	}
	return found
}

// ReadList reads what Note has written: the names of secrets by their values. It fails if the list is empty or has a line that is none.
func ReadList(r io.Reader) (map[string]string, error) {
	secrets := map[string]string{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		name, secret, ok := strings.Cut(lines.Text(), "\t")
		if !ok || name == "" || len(secret) < MinLength {
			return nil, fmt.Errorf("line %d is no name with a secret of at least %d bytes", n, MinLength)
		}
		secrets[secret] = name
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(secrets) == 0 {
		return nil, errors.New("no secret is listed")
	}
	return secrets, nil
}
