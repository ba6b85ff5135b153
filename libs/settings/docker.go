package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"opensandbox/libs/conf"
	"opensandbox/libs/sandbox"
)

func dockerKeys(s *Settings, home string) []conf.Key {
	v := &s.Docker
	return []conf.Key{
		networkMode(&v.NetworkMode).Describe("network of the sandboxes: `bridge`, `host` (one sandbox at a time, with all ports of the node), or the name of a network that exists on the engine (1.1.1: `host`)", agent),
		conf.Seconds("docker.api_timeout", &v.APITimeout, 1, 1<<20).Describe("seconds for a call of the engine", agent),
		conf.Seconds("docker.pull_timeout_seconds", &v.PullTimeout, 1, 1<<20).Describe(ours+"seconds for a pull", agent),
		conf.Int("docker.max_concurrency", &v.MaxConcurrency, 0, 1024).ByDefault("4 × processors of the engine").Describe(ours+"creates and removals at once", agent),
		publishHost(&v.PublishHost).Describe("address that sandbox ports are published on", agent),
		conf.Int("docker.port_range_min", &v.PortMin, 1024, 65535).Describe("first port to publish on", agent),
		conf.Int("docker.port_range_max", &v.PortMax, 1024, 65535).Describe("last port to publish on; at least 99 above the first, which makes 100 ports", agent),
		conf.String("docker.host_ip", &v.HostIP, nil).Describe("host for clients when the server itself runs in a container", api),
		conf.Strings("docker.drop_capabilities", &v.DropCapabilities).ByDefault("nine").Describe("capabilities that sandboxes do not get", agent),
		conf.Strings("docker.allowed_runtimes", &v.AllowedRuntimes).Describe(ours+"isolation runtimes of the engines, such as `runsc`, that a create may choose by `extensions[\"node.runtime\"]`", api),
		conf.Bool("docker.no_new_privileges", &v.NoNewPrivileges).Describe("sandboxes cannot gain privileges by setuid programs", agent),
		conf.String("docker.apparmor_profile", &v.AppArmorProfile, apparmorProfile).Allow("name of a profile, empty").
			Describe("AppArmor profile of the sandboxes, which the kernel of the node has loaded; empty: the engine's own", agent),
		seccompProfile(&v.SeccompProfile, home).
			Describe("seccomp profile of the sandboxes: a file on the node in the engine's JSON form, that JSON itself, `builtin` or `unconfined`; empty: the engine's own", agent),
		conf.Int("docker.pids_limit", &v.PidsLimit, 1, 1<<30).Describe("processes in a sandbox", agent),
		conf.HiddenTexts("docker.sandbox_env", &v.SandboxEnv, variable).Describe("variables that every sandbox gets, as `NAME = \"value\"`; those of a create go over them", agent),
		conf.Strings("docker.sandbox_binds", &v.SandboxBinds).Then(func() error { return binds(v.SandboxBinds) }).Allow("array of src:dst or src:dst:mode").
			Describe("what every sandbox has mounted: `src` is a path on the node or the name of a volume, `dst` a path in the sandbox, `mode` is `ro`, `rw` or another of the engine's words", agent),
	}
}

// storageKeys are about what a create may mount.
func storageKeys(s *Settings) []conf.Key {
	v := &s.Storage
	return []conf.Key{
		conf.Strings("storage.allowed_host_paths", &v.AllowedHostPaths).Then(func() error { return absolutePaths(v.AllowedHostPaths) }).Allow("array of absolute paths").
			Describe("directories of the node of which, and below which, a create may mount; none: no host volumes", api, agent),
		conf.String("storage.volume_default_size", &v.VolumeDefaultSize, quantity).Allow(`"1Gi", "500Mi"`).Warn(notYet).Describe("size of volumes that Kubernetes makes", agent),
		conf.String("storage.ossfs_mount_root", &v.OSSFSMountRoot, absolutePath).Allow("absolute path").Warn(notYet).Describe("where buckets are mounted on the node", agent),
	}
}

func proxyKeys(s *Settings) []conf.Key {
	return []conf.Key{
		conf.Bool("proxy.resolve_internal", &s.Proxy.ResolveInternal).
			Describe("the server's proxy goes to the address of the container; false: to its published port, for engines whose containers the server cannot reach", api),
	}
}

// networkName is what the engine takes for the name of a network.
var networkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// networkMode takes the engine's words in any case, as OpenSandbox 1.1.1 does, but leaves names of networks as they are written.
func networkMode(to *string) conf.Key {
	const allowed = `"bridge", "host" or the name of a network`
	return conf.String("docker.network_mode", to, func(s string) error {
		switch word := strings.ToLower(s); {
		case word == "none" || strings.HasPrefix(word, "container:"):
			return errors.New("sandboxes need a network of their own: expected " + allowed)
		case word != "" && !networkName.MatchString(s):
			return errors.New("expected " + allowed)
		}
		return nil
	}).Then(func() error {
		switch word := strings.ToLower(*to); word {
		case "", "default":
			*to = NetworkBridge
		case NetworkBridge, NetworkHost:
			*to = word
		}
		return nil
	}).Allow("bridge, host, name of a network")
}

func publishHost(to *string) conf.Key {
	return conf.String("docker.publish_host", to, blankOrSpace(ipv4)).Then(func() error {
		if *to = strings.TrimSpace(*to); *to == "" {
			*to = "0.0.0.0"
		}
		return nil
	}).Allow("IPv4 address")
}

func apparmorProfile(s string) error {
	if strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r == '=' || r == 0x7f }) {
		return errors.New("expected the name of a profile, without spaces and =")
	}
	return nil
}

func seccompProfile(to *string, home string) conf.Key {
	return conf.String("docker.seccomp_profile", to, func(s string) error {
		switch {
		case s == "" || s == "builtin" || s == "unconfined" || path.IsAbs(s) || strings.HasPrefix(s, "~/"):
			return nil
		case strings.HasPrefix(strings.TrimSpace(s), "{"):
			if json.Valid([]byte(s)) {
				return nil
			}
			return errors.New("not valid JSON")
		}
		return errors.New(`expected an absolute path, a profile in JSON, "builtin" or "unconfined"`)
	}).Then(func() error { *to = expand(*to, home); return nil }).Allow("absolute path, JSON, builtin, unconfined, empty")
}

// variable checks a pair for the environment of a process (POSIX: no = in the name, no zero byte anywhere).
func variable(name, value string) error {
	if name == "" || strings.ContainsAny(name, "=\x00") {
		return errors.New("expected a name without =")
	}
	if strings.ContainsRune(value, 0) {
		return errors.New("expected a value without zero bytes")
	}
	if name == "OPENSANDBOX_ID" {
		return errors.New("every sandbox has its own")
	}
	return nil
}

// bindModes are the words that the engine takes behind the second colon of a bind.
var bindModes = map[string]bool{"ro": true, "rw": true, "z": true, "Z": true, "nocopy": true, "shared": true, "slave": true, "private": true,
	"rshared": true, "rslave": true, "rprivate": true}

// binds checks what OpenSandbox 1.1.1 hands to the engine unread: there, a mistake makes every create fail.
func binds(list []string) error {
	targets := map[string]bool{}
	for _, b := range list {
		parts := strings.Split(b, ":")
		if len(parts) < 2 || len(parts) > 3 {
			return fmt.Errorf("%q: expected src:dst or src:dst:mode", b)
		}
		src, dst := parts[0], parts[1]
		if !(path.IsAbs(src) && path.Clean(src) == strings.TrimSuffix(src, "/")) && src != "/" && !networkName.MatchString(src) {
			return fmt.Errorf("%q: before the colon, expected an absolute path without .. or the name of a volume", b)
		}
		if !path.IsAbs(dst) || path.Clean(dst) == "/" || strings.Contains(dst+"/", "/../") {
			return fmt.Errorf("%q: behind the colon, expected an absolute path in the sandbox without .. that is not the root", b)
		}
		if dst = path.Clean(dst); targets[dst] {
			return fmt.Errorf("%q: %s is mounted twice", b, dst)
		}
		targets[dst] = true
		for _, word := range strings.Split(strings.Join(parts[2:], ""), ",") {
			if len(parts) == 3 && !bindModes[word] {
				return fmt.Errorf("%q: unknown mode %q; expected ro or rw", b, word)
			}
		}
	}
	return nil
}

func absolutePath(s string) error {
	if !path.IsAbs(s) || strings.ContainsRune(s, 0) || strings.Contains(s+"/", "/../") {
		return errors.New("expected an absolute path, not one with .. in it")
	}
	return nil
}

func absolutePaths(list []string) error {
	for _, p := range list {
		if err := absolutePath(p); err != nil {
			return fmt.Errorf("%q: %w", p, err)
		}
	}
	return nil
}

// quantity checks a size of Kubernetes.
func quantity(s string) error {
	if n, err := sandbox.ParseMemory(s); err != nil || n <= 0 {
		return errors.New(`expected a size such as "1Gi"`)
	}
	return nil
}

// blankOrSpace takes text of nothing but spaces for no value.
func blankOrSpace(check func(string) error) func(string) error {
	return func(s string) error { return blankOr(check)(strings.TrimSpace(s)) }
}
