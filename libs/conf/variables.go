package conf

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// variables binds the environment's values. A mistake in the file stays one, also where a variable goes over it.
func (l *Loaded) variables(in Input) {
	byVariable := make(map[string]bool, len(l.keys))
	for i := range l.keys {
		key := &l.keys[i]
		name := key.EnvironmentVariable()
		byVariable[name] = true
		text, ok := in.Lookup(name)
		if !ok || text == "" && !key.Blank {
			continue
		}
		if isServiceLink(name, text) {
			l.warn("%s: set by Kubernetes for a service of that name, ignored; enableServiceLinks: false in the pod keeps it out", name)
			continue
		}
		l.bindText(key, name, text)
	}
	for _, name := range slices.Sorted(slices.Values(in.Names)) {
		if strings.HasPrefix(name, VariablePrefix) && !byVariable[name] && !slices.Contains(in.Others, name) {
			l.stray(name, in.Lookup)
		}
	}
}

func (l *Loaded) bindText(key *Key, variable, text string) {
	var value any = text
	if key.Parse != nil {
		var err error
		if value, err = key.Parse(text); err != nil {
			l.mistakes = append(l.mistakes, fmt.Errorf("%s = %s: %w", variable, shown(key, text), err))
			return
		}
	}
	if err := key.Bind(value); err != nil {
		l.mistakes = append(l.mistakes, fmt.Errorf("%s = %s: %w", variable, shown(key, text), err))
		return
	}
	l.origins[key.Name] = variable
	if key.Note != "" {
		l.warn("%s: %s", variable, key.Note)
	}
}

// stray looks at a variable that is no key: one below a refused table is refused with it, one that is almost a key gives a warning, and
// all others belong to somebody else.
func (l *Loaded) stray(name string, lookup func(string) (string, bool)) {
	text, _ := lookup(name)
	if text == "" || isServiceLink(name, text) || serviceNames.MatchString(name) {
		return
	}
	known := make([]string, 0, len(l.keys))
	for i := range l.keys {
		key := &l.keys[i]
		known = append(known, strings.TrimPrefix(key.EnvironmentVariable(), VariablePrefix))
		if key.Table && key.Get == nil && key.Note == "" && strings.HasPrefix(name, key.EnvironmentVariable()+"_") {
			if err := key.Bind(text); err != nil {
				l.mistakes = append(l.mistakes, fmt.Errorf("%s = %s: %w", name, Mask, err))
			}
			return
		}
	}
	// The common prefix says nothing about how alike two names are.
	if near := Nearest(strings.TrimPrefix(name, VariablePrefix), known); near != "" {
		l.warn("%s: unknown, ignored; did you mean %s?", bare(name), VariablePrefix+near)
	}
}

// Kubernetes gives each container variables for the services of its namespace: a service opensandbox-server becomes
// OPENSANDBOX_SERVER_PORT=tcp://10.0.0.1:8080, which is the name of a key of ours.
var (
	serviceAddress = regexp.MustCompile(`^(tcp|udp|sctp)://[0-9a-fA-F.:\[\]]+:[0-9]+$`)
	serviceNames   = regexp.MustCompile(`_SERVICE_(HOST|PORT(_.*)?)$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)
)

func isServiceLink(name, text string) bool {
	return strings.HasSuffix(name, "_PORT") && serviceAddress.MatchString(text)
}
