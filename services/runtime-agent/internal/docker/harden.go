package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/versions"
)

// Values of a seccomp profile that are no file: no filter at all, and the one that the engine has by itself.
const (
	seccompUnconfined = "unconfined"
	seccompBuiltin    = "builtin"
)

// securityOptions are what the operator set for all sandboxes, in the engine's form. A profile that cannot be had is an error: sandboxes that
// are less confined than their operator believes are worse than none. Only AppArmor, which many machines do not have, is a line in the log.
func (e *Engine) securityOptions(ctx context.Context, info system.Info) ([]string, error) {
	var out []string
	if e.cfg.NoNewPrivileges {
		out = append(out, "no-new-privileges=true")
	}
	if p := e.cfg.AppArmorProfile; p != "" {
		if !offers(info, "apparmor") {
			e.cfg.Log.WarnContext(ctx, "the engine has no AppArmor; docker.apparmor_profile has no effect", "profile", p)
		}
		out = append(out, "apparmor="+p)
	}
	if e.cfg.SeccompProfile == "" {
		return out, nil
	}
	profile, err := seccomp(e.cfg.SeccompProfile)
	if err != nil {
		return nil, fmt.Errorf("docker.seccomp_profile: %w", err)
	}
	if !offers(info, "seccomp") && profile != seccompUnconfined {
		return nil, fmt.Errorf("docker.seccomp_profile: the engine has no seccomp")
	}
	if profile == seccompBuiltin && versions.LessThan(e.api.ClientVersion(), "1.42") {
		return out, nil // these engines have no word for it; it is what they take without one
	}
	return append(out, "seccomp="+profile), nil
}

// offers reports whether an engine has a security module: its options are such as "name=seccomp,profile=default".
func offers(info system.Info, module string) bool {
	return slices.ContainsFunc(info.SecurityOptions, func(option string) bool {
		return slices.Contains(strings.Split(option, ","), "name="+module)
	})
}

// seccomp returns a profile as engines take it: they want the content, not the name of a file, which they could not read on another machine.
func seccomp(profile string) (string, error) {
	if profile == seccompUnconfined || profile == seccompBuiltin {
		return profile, nil
	}
	text, name := []byte(profile), "the text"
	if !strings.HasPrefix(profile, "{") {
		var err error
		if text, err = os.ReadFile(profile); err != nil {
			return "", err
		}
		name = profile
	}
	var content map[string]json.RawMessage
	if err := json.Unmarshal(text, &content); err != nil {
		return "", fmt.Errorf("%s is not a profile in JSON: %w", name, err)
	}
	if _, ok := content["defaultAction"]; !ok {
		return "", fmt.Errorf("%s is not a profile: it has no defaultAction", name)
	}
	var short bytes.Buffer
	if err := json.Compact(&short, text); err != nil {
		return "", err
	}
	return short.String(), nil
}
