// Package hooks runs the commands that belong to a sandbox's life: one before its entry point, and some again and again beside it.
// They are given in the variable OPENSANDBOX_LIFECYCLE, or else in a file that an earlier run has written, as in OpenSandbox 1.1.1.
package hooks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Variable holds the hooks as JSON. Children never see it.
const Variable = "OPENSANDBOX_LIFECYCLE"

// The bounds of OpenSandbox 1.1.1, in seconds.
const (
	defaultTimeout     = 60
	maxStartTimeout    = 10800
	maxPeriodicTimeout = 300
)

// Hook is one command; it is run without a shell.
type Hook struct {
	// Name is unique among the periodic hooks; that of the start hook is preStart.
	Name    string
	Command []string
	// Timeout is when the command is killed, with everything in its process group.
	Timeout time.Duration
}

// Periodic is a hook with the times at which it runs.
type Periodic struct {
	Hook
	Schedule Schedule
}

// Set is everything that one variable says.
type Set struct {
	// PreStart must succeed before the entry point is started; nil means that there is none.
	PreStart *Hook
	Periodic []Periodic
	// said is what the variable says, for Save; nil when the set is not from there.
	said *wireSet
}

// wireSet is a Set as the variable has it in JSON, and the file in TOML.
type wireSet struct {
	Version  int        `json:"-" toml:"version"`
	PreStart *wireHook  `json:"preStart" toml:"preStart,omitempty"`
	Periodic []wireHook `json:"periodic" toml:"periodic,omitempty"`
}

// wireHook is the form of both kinds of hooks.
type wireHook struct {
	Name     string   `json:"name" toml:"name,omitempty"`
	Schedule string   `json:"schedule" toml:"schedule,omitempty"`
	Command  []string `json:"command" toml:"command"`
	Timeout  *int     `json:"timeoutSeconds" toml:"timeout_seconds,omitempty"`
}

// decodeVariable reads the text of the variable; ok is false for an empty one. Unknown keys are mistakes: a hook that is silently not run is
// worse than a sandbox that does not start.
func decodeVariable(text string) (s wireSet, ok bool, err error) {
	if strings.TrimSpace(text) == "" {
		return wireSet{}, false, nil
	}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return wireSet{}, false, fmt.Errorf("%s: %w", Variable, plain(err))
	}
	if _, err := d.Token(); err != io.EOF {
		return wireSet{}, false, fmt.Errorf("%s: text after the JSON object", Variable)
	}
	return s, true, nil
}

// check turns a set into what is run. All mistakes are reported at once, without quoting commands, which may hold secrets; source says where
// they are.
func (wire wireSet) check(source string) (Set, error) {
	var set Set
	var problems []error
	if w := wire.PreStart; w != nil {
		h, err := w.hook("preStart", maxStartTimeout)
		if w.Name != "" || w.Schedule != "" {
			err = errors.Join(err, errors.New("preStart: it has neither name nor schedule"))
		}
		set.PreStart, problems = &h, append(problems, err)
	}
	names := map[string]bool{}
	for i, w := range wire.Periodic {
		where := fmt.Sprintf("periodic[%d]", i)
		h, err := w.hook(where, maxPeriodicTimeout)
		schedule, serr := ParseSchedule(w.Schedule)
		if serr != nil {
			serr = fmt.Errorf("%s: schedule: %w", where, serr)
		}
		var nerr error
		if w.Name = strings.TrimSpace(w.Name); w.Name == "" {
			nerr = fmt.Errorf("%s: the name is missing", where)
		} else if names[w.Name] {
			nerr = fmt.Errorf("%s: another hook has the same name", where)
		}
		names[w.Name] = true
		h.Name = w.Name
		set.Periodic, problems = append(set.Periodic, Periodic{h, schedule}), append(problems, err, serr, nerr)
	}
	if err := errors.Join(problems...); err != nil {
		return Set{}, fmt.Errorf("%s: %w", source, err)
	}
	return set, nil
}

func (w wireHook) hook(where string, max int) (Hook, error) {
	h := Hook{Name: where, Command: w.Command, Timeout: defaultTimeout * time.Second}
	if w.Timeout != nil {
		if *w.Timeout < 1 || *w.Timeout > max {
			return h, fmt.Errorf("%s: timeoutSeconds must be from 1 to %d", where, max)
		}
		h.Timeout = time.Duration(*w.Timeout) * time.Second
	}
	if len(w.Command) == 0 || strings.TrimSpace(w.Command[0]) == "" {
		return h, fmt.Errorf("%s: the command is missing", where)
	}
	for _, arg := range w.Command {
		if strings.Contains(arg, "\x00") {
			return h, fmt.Errorf("%s: the command holds a NUL byte", where)
		}
	}
	return h, nil
}

// plain words errors of the JSON decoder that would quote values.
func plain(err error) error {
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s has the wrong type", te.Field)
	}
	return err
}
