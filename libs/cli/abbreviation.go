package cli

import (
	"flag"
	"fmt"
	"slices"
	"strings"
)

// elder are the flags of OpenSandbox 1.1.1, which takes every beginning that fits one of them only. Beginnings of theirs keep their meaning
// beside the flags that are new.
var elder = []string{"config", "help", "reload"}

// inFull writes abbreviated flags out, up to the first argument that is none: --conf is --config. The error repeats nothing but names of
// flags.
func inFull(set *flag.FlagSet, args []string) ([]string, error) {
	out := slices.Clone(args)
	for i := 0; i < len(out); i++ {
		word, long := strings.CutPrefix(out[i], "--")
		if !long {
			word = strings.TrimPrefix(out[i], "-")
		}
		if word == out[i] || word == "" {
			break // an operand, "-" or "--"
		}
		name, value, has := strings.Cut(word, "=")
		if long {
			full, err := fullName(set, name)
			if err != nil {
				return nil, err
			}
			if name = full; has {
				out[i] = "--" + name + "=" + value
			} else {
				out[i] = "--" + name
			}
		}
		if f := set.Lookup(name); f != nil && !has && !isSwitch(f) {
			i++ // its value
		}
	}
	return out, nil
}

// fullName returns the name of the flag that begins so, or what it was given if there is none.
func fullName(set *flag.FlagSet, name string) (string, error) {
	if set.Lookup(name) != nil || name == "h" || name == "help" {
		return name, nil
	}
	var fitting []string
	set.VisitAll(func(f *flag.Flag) {
		if strings.HasPrefix(f.Name, name) {
			fitting = append(fitting, f.Name)
		}
	})
	if strings.HasPrefix("help", name) {
		fitting = append(fitting, "help")
	}
	if i := slices.IndexFunc(elder, func(e string) bool { return slices.Contains(fitting, e) }); i >= 0 {
		return elder[i], nil
	}
	switch len(fitting) {
	case 0:
		return name, nil
	case 1:
		return fitting[0], nil
	}
	return "", fmt.Errorf("--%s is the beginning of --%s; write one of them in full", name, strings.Join(fitting, " and --"))
}

// isSwitch reports whether a flag takes no value.
func isSwitch(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}
