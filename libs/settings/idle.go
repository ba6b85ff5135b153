package settings

import "opensandbox/libs/conf"

// acceptedKeys are keys of OpenSandbox 1.1.1 without an effect here.
func acceptedKeys() []conf.Key {
	var runtime, source string
	table := []conf.Key{
		only(conf.String("runtime.type", &runtime, nil), "docker", `only "docker" is available yet`),
		only(conf.String("runtime.execd_source", &source, nil), "builtin", `only "builtin" is available yet`),
		conf.Ignored("runtime.execd_image", "has no effect: the daemon is built in"),
		conf.Ignored("runtime.execd_run_as_init", "has no effect: the daemon is always the first process"),
	}
	table[0].Get, table[1].Get = nil, nil
	for _, name := range []string{"server.backlog", "server.thread_pool_size", "server.loop", "server.http"} {
		table = append(table, conf.Ignored(name, nothing))
	}
	for _, name := range []string{
		"proxy", "egress", "storage", "otel", "secure_runtime.k8s_runtime_class",
		"log.file_enabled", "log.file_path", "log.access_file_path", "log.file_max_bytes", "log.file_backup_count",
	} {
		table = append(table, conf.Ignored(name, notYet))
	}
	return table
}

// refusedKeys are keys of OpenSandbox 1.1.1 whose loss would leave sandboxes less protected than the operator believes.
func refusedKeys() []conf.Key {
	return []conf.Key{
		conf.Refused("docker.apparmor_profile", "AppArmor profiles are not supported yet; remove the key to start without one"),
		conf.Refused("docker.seccomp_profile", "seccomp profiles are not supported yet; remove the key to start with the engine's own"),
		conf.Refused("docker.sandbox_env", "variables for all sandboxes are not supported yet").Conceal(),
		conf.Refused("docker.sandbox_binds", "binds for all sandboxes are not supported yet"),
		conf.Refused("store.postgresql", `PostgreSQL is not supported; store.type is "sqlite" or "redis"`).Conceal(),
		conf.Refused("store.postgresql.dsn", `PostgreSQL is not supported; store.type is "sqlite" or "redis"`).Conceal(),
		conf.Refused("tenants", "tenants are not supported yet; without them every key holder sees every sandbox").Conceal(),
		conf.Refused("secure_runtime.type", "secure runtimes are not supported yet; sandboxes would run without the isolation that is asked for"),
		conf.Refused("secure_runtime.docker_runtime", "secure runtimes are not supported yet"),
		conf.Refused("ingress.mode", `only "direct" is available yet`, "direct"),
		conf.Refused("ingress.secure_access", "secure access is not supported yet").Conceal(),
		conf.Refused("ingress.secure_access.keys", "secure access is not supported yet").Conceal().FromVariable("OPENSANDBOX_SECURE_ACCESS_KEYS"),
		conf.Refused("ingress.secure_access.active_key", "secure access is not supported yet").Conceal().FromVariable("OPENSANDBOX_SECURE_ACCESS_ACTIVE_KEY"),
		conf.Refused("ingress.gateway", "gateways are not supported yet"),
		conf.Refused("kubernetes", `does not go together with runtime.type = "docker"`),
		conf.Refused("agent_sandbox", `does not go together with runtime.type = "docker"`),
	}
}
