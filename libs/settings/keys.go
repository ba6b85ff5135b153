package settings

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"opensandbox/libs/conf"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Notes of keys that are accepted without an effect.
const (
	notYet  = "has no effect yet"
	nothing = "means nothing to this server"
)

// keys is the table of all keys: those of OpenSandbox 1.1.1, and our own. Adding one costs a line.
func keys(s *Settings, home string) []conf.Key {
	all := serverKeys(s)
	all = append(all, dockerKeys(s)...)
	all = append(all, ownKeys(s, home)...)
	return append(all, idleKeys()...)
}

func serverKeys(s *Settings) []conf.Key {
	return []conf.Key{
		conf.String("server.host", &s.Server.Host, filled),
		conf.Int("server.port", &s.Server.Port, 1, 65535),
		conf.Hidden("server.api_key", &s.Server.APIKey),
		conf.String("server.eip", &s.Server.External, nil),
		conf.Seconds("server.max_sandbox_timeout_seconds", &s.Server.MaxTimeout, 60, 1<<31),
		conf.Seconds("server.timeout_keep_alive", &s.Server.KeepAlive, 1, 1<<20),
		conf.Int("server.limit_concurrency", &s.Server.MaxConcurrency, 0, 1<<20),
		conf.Seconds("server.timeout_graceful_shutdown", &s.Server.Grace, 1, 1<<20),
		conf.Ignored("server.backlog", nothing), conf.Ignored("server.thread_pool_size", nothing),
		conf.Ignored("server.loop", nothing), conf.Ignored("server.http", nothing),
		conf.Enum("log.level", &s.Log.Level, "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
	}
}

func dockerKeys(s *Settings) []conf.Key {
	var runtime, source, store string
	return []conf.Key{
		only(conf.String("runtime.type", &runtime, nil), "docker", `only "docker" is available yet`),
		conf.Ignored("runtime.execd_image", "has no effect: the daemon is built in"),
		only(conf.String("runtime.execd_source", &source, nil), "builtin", `only "builtin" is available yet`),
		conf.Ignored("runtime.execd_run_as_init", "has no effect: the daemon is always the first process"),
		only(conf.String("docker.network_mode", &s.Docker.NetworkMode, nil), "bridge", `only "bridge" is available yet`),
		conf.Seconds("docker.api_timeout", &s.Docker.APITimeout, 1, 1<<20),
		conf.String("docker.host_ip", &s.Docker.HostIP, nil),
		conf.Strings("docker.drop_capabilities", &s.Docker.DropCapabilities),
		conf.Bool("docker.no_new_privileges", &s.Docker.NoNewPrivileges),
		conf.Int("docker.pids_limit", &s.Docker.PidsLimit, 1, 1<<30),
		conf.Int("docker.port_range_min", &s.Docker.PortMin, 1024, 65535),
		conf.Int("docker.port_range_max", &s.Docker.PortMax, 1024, 65535),
		conf.String("docker.publish_host", &s.Docker.PublishHost, ipv4),
		conf.Int("docker.max_concurrency", &s.Docker.MaxConcurrency, 0, 1024),
		conf.Seconds("docker.pull_timeout_seconds", &s.Docker.PullTimeout, 1, 1<<20),
		conf.Refused("docker.apparmor_profile", "AppArmor profiles are not supported yet; remove the key to start without one"),
		conf.Refused("docker.seccomp_profile", "seccomp profiles are not supported yet; remove the key to start with the engine's own"),
		conf.Refused("docker.sandbox_env", "variables for all sandboxes are not supported yet"),
		conf.Refused("docker.sandbox_binds", "binds for all sandboxes are not supported yet"),
		only(conf.String("store.type", &store, nil), "sqlite", `only "sqlite" is available yet ("redis" is planned, "postgresql" is not)`),
		conf.Refused("store.postgresql", `PostgreSQL is not supported; store.type is "sqlite", and "redis" is planned`),
	}
}

func ownKeys(s *Settings, home string) []conf.Key {
	path := func(name string, to *string) conf.Key {
		return conf.String(name, to, filled).Then(func() error { *to = expand(*to, home); return nil })
	}
	return []conf.Key{
		conf.Seconds("server.create_wait_seconds", &s.Server.CreateWait, 0, 25),
		conf.Seconds("server.failed_retention_seconds", &s.Server.RetainFailed, 0, 1<<30),
		conf.String("server.admin_listen", &s.Server.AdminListen, nil),
		conf.String("server.installation_id", &s.Server.Installation, nil),
		conf.Enum("log.format", &s.Log.Format, "text", "json"),
		path("store.path", &s.Store.Path),
		path("agent.state_dir", &s.Agent.StateDir),
		conf.String("agent.node", &s.Agent.Node, filled),
		path("agent.execd_path", &s.Agent.ExecdPath),
		conf.Seconds("scheduler.placement_wait_seconds", &s.Scheduler.PlacementWait, 0, int(time.Hour/time.Second)),
		conf.Int("scheduler.max_sandboxes", &s.Scheduler.MaxSandboxes, 0, 1<<30),
		amount("scheduler.default_request.cpu", &s.Scheduler.DefaultRequest.CPU, sandbox.ParseCPU),
		amount("scheduler.default_request.memory", &s.Scheduler.DefaultRequest.Memory, sandbox.ParseMemory),
	}
}

// idleKeys are the keys of OpenSandbox 1.1.1 without an effect here. Those whose loss would leave sandboxes less protected than the
// operator believes are refused instead.
func idleKeys() []conf.Key {
	all := []conf.Key{
		conf.Refused("tenants", "tenants are not supported yet; without them every key holder sees every sandbox"),
		conf.Refused("secure_runtime.type", "secure runtimes are not supported yet; sandboxes would run without the isolation that is asked for"),
		conf.Refused("secure_runtime.docker_runtime", "secure runtimes are not supported yet"),
		conf.Refused("ingress.mode", `only "direct" is available yet`, "direct"),
		conf.Refused("ingress.secure_access", "secure access is not supported yet"),
		conf.Refused("ingress.gateway", "gateways are not supported yet"),
		conf.Refused("kubernetes", `does not go together with runtime.type = "docker"`),
		conf.Refused("agent_sandbox", `does not go together with runtime.type = "docker"`),
	}
	for _, name := range []string{
		"proxy", "egress", "storage", "renew_intent", "otel", "secure_runtime.k8s_runtime_class",
		"log.file_enabled", "log.file_path", "log.access_file_path", "log.file_max_bytes", "log.file_backup_count",
	} {
		all = append(all, conf.Ignored(name, notYet))
	}
	return all
}

// only refuses every value but one.
func only(k conf.Key, word, why string) conf.Key {
	bind := k.Bind
	k.Bind = func(v any) error {
		s, ok := v.(string)
		if !ok || !strings.EqualFold(s, word) {
			return errors.New(why)
		}
		return bind(word)
	}
	return k
}

func amount(name string, to *int64, parse func(string) (int64, error)) conf.Key {
	var s string
	return conf.String(name, &s, nil).Then(func() error {
		n, err := parse(s)
		if err != nil {
			return errors.New(fault.TextOf(err))
		}
		*to = n
		return nil
	})
}

func filled(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("must not be empty")
	}
	return nil
}

func ipv4(s string) error {
	if a, err := netip.ParseAddr(strings.TrimSpace(s)); err != nil || !a.Is4() {
		return fmt.Errorf("expected an IPv4 address such as 0.0.0.0 or 127.0.0.1")
	}
	return nil
}
