// Package redact takes secrets out of text before it is logged. It knows the shapes that secrets have in command lines, as
// OpenSandbox 1.1.1 does; what has none of them passes, so logs of commands stay something to keep for oneself.
package redact

import (
	"regexp"
	"sync"

	"opensandbox/services/execd/internal/sse"
)

// mask stands for a secret.
const mask = "****"

// maxText bounds the text that is looked at, in bytes; the rest is cut off.
const maxText = 4096

const (
	// value is one word of a shell, quoted or not. A quote that never closes reaches to the end.
	value = `(?:"(?:[^"\\]|\\.)*(?:"|$)|'[^']*(?:'|$)|[^\s"';|&]+)+`
	// word is a value that is no flag: --token --password x.
	word  = `(?:"(?:[^"\\]|\\.)*(?:"|$)|'[^']*(?:'|$)|[^\s"';|&-])` + value + `?`
	names = `(?:token|password|passwd|passphrase|secret|credential|api[-_]?key|access[-_]?key|secret[-_]?key|private[-_]?key|auth)`
)

// rules are applied one after the other; what each keeps stands in its groups, around the secret. They are compiled at the first use: execd starts
// with every sandbox and for every file request under another identity, and most never log anything.
var rules = sync.OnceValue(func() []*regexp.Regexp {
	return []*regexp.Regexp{
		// scheme://user:password@host
		regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@"']+(@)`),
		// Authorization: Bearer …, up to the end of the header.
		regexp.MustCompile(`(?i)((?:proxy-)?authorization["']?\s*[:=]\s*["']?)[^"'\r\n]+`),
		// Other headers that carry a secret: X-Api-Key: …, Cookie: …
		regexp.MustCompile(`(?i)((?:x-[a-z-]*(?:token|key|secret)|(?:set-)?cookie)["']?\s*:\s*["']?)[^"'\r\n]+`),
		// AccountKey=…; of a connection string.
		regexp.MustCompile(`(?i)((?:Account|SharedAccess)Key=)[^;\s"']+`),
		// --db-password=…
		regexp.MustCompile(`(?i)(--?[a-z0-9_-]*` + names + `[a-z0-9_-]*=)` + value),
		// --token …
		regexp.MustCompile(`(?i)(--?[a-z0-9_-]*` + names + `[a-z0-9_-]*\s+)` + word),
		// DB_PASSWORD=…, also in an export.
		regexp.MustCompile(`(\b[A-Z0-9_]*(?:TOKEN|PASSWORD|PASSWD|PASSPHRASE|PWD|SECRET|CREDENTIALS?|API_?KEY|ACCESS_?KEY|SECRET_?KEY|PRIVATE_?KEY|AUTH)[A-Z0-9_]*=)` + value),
		// "password": "…" in JSON.
		regexp.MustCompile(`(?i)("[a-z0-9_-]*` + names + `[a-z0-9_-]*"\s*:\s*)"(?:[^"\\]|\\.)*(?:"|$)`),
		// Keys of cloud providers by their shape.
		regexp.MustCompile(`()\b(?:LTAI|AKIA|ASIA|AKID)[A-Za-z0-9]{8,}`),
	}
})

// Text returns s with every secret that it recognises masked, and no longer than 4 KiB.
func Text(s string) string {
	cut := len(s) > maxText
	s = s[:sse.CutText(s, maxText)]
	for _, r := range rules() {
		s = r.ReplaceAllString(s, "${1}"+mask+"${2}")
	}
	if cut {
		s += "…"
	}
	return s
}
