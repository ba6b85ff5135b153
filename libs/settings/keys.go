package settings

import (
	"errors"
	"slices"
	"strconv"
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

// The services that a key is for. The single binary is all of them.
const (
	api       = "api"
	scheduler = "scheduler"
	agent     = "agent"
	router    = "router"
	all       = "all"
)

// ours marks keys that OpenSandbox 1.1.1 does not have.
const ours = "*ours:* "

// keys is the table of all keys: those of OpenSandbox 1.1.1, and our own.
func keys(s *Settings, home string) []conf.Key {
	return slices.Concat(serverKeys(s), logKeys(s, home), runtimeKeys(s), dockerKeys(s, home), storageKeys(s), storeKeys(s, home), proxyKeys(s), ingressKeys(s),
		renewKeys(s), egressKeys(s), secureRuntimeKeys(s), tenantKeys(s), otelKeys(s), routerKeys(s), schedulerKeys(s), agentKeys(s, home), internalKeys(s),
		kubernetesKeys(s, home), acceptedKeys())
}

func serverKeys(s *Settings) []conf.Key {
	v := &s.Server
	return []conf.Key{
		conf.String("server.host", &v.Host, filled).Describe("address of the API; `127.0.0.1` without a configuration file", api),
		conf.Int("server.port", &v.Port, 1, 65535).Describe("port of the API", api),
		conf.Hidden("server.api_key", &v.APIKey, nil).OrBlank().Describe("what clients send as `OPEN-SANDBOX-API-KEY`; an empty variable empties it. Without one the API starts only with `OPENSANDBOX_INSECURE_SERVER=YES`", api),
		conf.String("server.eip", &v.External, nil).Describe("host at which clients reach sandboxes, if it is another than the server's own", api),
		conf.Seconds("server.max_sandbox_timeout_seconds", &v.MaxTimeout, 60, 1<<31).ByDefault("–").Describe("longest `timeout` of a create; renewals are not bounded", api),
		conf.Seconds("server.timeout_keep_alive", &v.KeepAlive, 1, 1<<20).Describe("seconds that an idle connection is kept", api, agent, router),
		conf.Int("server.limit_concurrency", &v.MaxConcurrency, 0, 1<<20).Describe("requests in progress; beyond: 503; 0: no bound", api),
		conf.Seconds("server.timeout_graceful_shutdown", &v.Grace, 1, 1<<20).Describe("seconds that requests may take after SIGTERM", api, agent, router),
		conf.Int("server.backlog", &v.Backlog, 1, 1<<30).Describe("connections that wait to be taken; the kernel bounds it by `net.core.somaxconn`", api, agent, router),
		conf.Seconds("server.drain_delay_seconds", &v.DrainDelay, 0, 300).Describe(ours+"how long API and router go on after SIGTERM while `/health` and `/ready` say 503, so that load balancers turn away first; then the time above begins", api, router),
		conf.Seconds("server.create_wait_seconds", &v.CreateWait, 0, 25).Describe(ours+"how long a create waits for Running; under the 30 s that SDKs wait", api),
		conf.Seconds("server.failed_retention_seconds", &v.RetainFailed, 0, 1<<30).Describe(ours+"how long a failed create is shown to a client that has its id", scheduler, agent),
		conf.String("server.admin_listen", &v.AdminListen, listenOrOff).OrBlank().Allow("host:port, empty").
			ByDefault("`127.0.0.1:9090`; split services 9091 (api), 9092 (scheduler), 9093 (agent), 9094 (router)").Describe(ours+"`/metrics` (Prometheus), `/health` and `/ready`; empty: off", all),
		conf.String("server.installation_id", &v.Installation, nil).ByDefault("derived").Describe(ours+"what tells this installation's sandboxes from those of others on an engine; the same for all its processes", all),
	}
}

func logKeys(s *Settings, home string) []conf.Key {
	v := &s.Log
	return []conf.Key{
		conf.Enum("log.level", &v.Level, "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "WARN", "FATAL").Then(func() error {
			v.Level = levelNames[v.Level]
			return nil
		}).Allow("DEBUG, INFO, WARNING, ERROR, CRITICAL").Describe("least level that is written", all),
		conf.Enum("log.format", &v.Format, "text", "json").Describe(ours+"form of the log", all),
		conf.Bool("log.file_enabled", &v.FileEnabled).Describe("the log goes to files in place of standard error. They are opened again at SIGHUP", all),
		pathKey("log.file_path", &v.FilePath, home).ByDefault("`~/logs/opensandbox/server.log`; split services `api.log` …").Describe("file of the log; processes on one machine each need their own", all),
		pathKey("log.access_file_path", &v.AccessFilePath, home).Describe("file of one line for each request", api),
		conf.Int("log.file_max_bytes", &v.FileMaxBytes, 1, 1<<40).Describe("size at which a file is put aside and a new one begun", all),
		conf.Int("log.file_backup_count", &v.FileBackups, 0, 1<<20).Describe("how many of those are kept; 0: the file grows for ever, for others to move away", all),
	}
}

// levelNames are the levels of OpenSandbox 1.1.1 with their other names.
var levelNames = map[string]string{"DEBUG": "DEBUG", "INFO": "INFO", "WARNING": "WARNING", "WARN": "WARNING", "ERROR": "ERROR", "CRITICAL": "CRITICAL", "FATAL": "CRITICAL"}

func storeKeys(s *Settings, home string) []conf.Key {
	v := &s.Store
	kind := conf.String("store.type", &v.Type, storeType).Then(func() error { v.Type = strings.ToLower(v.Type); return nil })
	return []conf.Key{
		kind.Allow("sqlite, redis").Describe("`sqlite` is for one machine; the split services need `redis`. There is no `postgresql` as in 1.1.1", all),
		pathKey("store.path", &v.Path, home).Describe("file of SQLite; the installation's key is kept beside it", all),
		conf.Hidden("store.redis_url", &v.url, blankOr(redisURL)).Allow("URL").Describe(ours+"where Redis is; required with `redis`. See below for its forms", all),
		conf.Bool("store.durable", &v.Durable).Describe(ours+"with `redis`: a change that a client asked for is answered only when it is on disk and on a replica", api, scheduler),
	}
}

func storeType(s string) error {
	switch strings.ToLower(s) {
	case StoreSQLite, StoreRedis:
		return nil
	case "postgresql", "postgres":
		return errors.New(`PostgreSQL is not supported; expected "sqlite" or "redis"`)
	}
	return errors.New(`expected "sqlite" or "redis"`)
}

// day bounds waits.
const day = int(24 * time.Hour / time.Second)

func schedulerKeys(s *Settings) []conf.Key {
	v := &s.Scheduler
	former := conf.Int("scheduler.max_sandboxes", &s.Agent.MaxSandboxes, 0, 1<<30).Warn("is called agent.max_sandboxes now")
	former.Get = nil
	return []conf.Key{
		conf.Seconds("scheduler.placement_wait_seconds", &v.PlacementWait, 0, int(time.Hour/time.Second)).Describe(ours+"how long a create waits for room", scheduler),
		cpu("scheduler.default_request.cpu", &v.DefaultRequest.CPU).Describe(ours+"what is reserved for a sandbox without `resourceRequests`", scheduler),
		memory("scheduler.default_request.memory", &v.DefaultRequest.Memory).Describe(ours+"what is reserved for a sandbox without `resourceRequests`", scheduler),
		conf.Seconds("scheduler.node_lost_after_seconds", &v.NodeLostAfter, 30, day).Describe(ours+"how long a node may be unreachable before its sandboxes are given up; the same for scheduler and agents", scheduler, agent),
		former,
	}
}

func agentKeys(s *Settings, home string) []conf.Key {
	v := &s.Agent
	return []conf.Key{
		conf.String("agent.node", &v.Node, nodeName).ByDefault("host name").Allow("letters, digits, .-_").Describe(ours+"name of this node; no two agents share one", agent),
		pathKey("agent.state_dir", &v.StateDir, home).Describe(ours+"lock and mirror of the node", agent),
		pathKey("agent.execd_path", &v.ExecdPath, home).ByDefault("built in").Describe(ours+"another daemon for the sandboxes", agent),
		conf.String("agent.host", &v.Host, hostAddress).ByDefault("derived").Allow("host name, IP address").Describe(ours+"host at which clients reach the leased ports of this node", agent),
		conf.String("agent.listen", &v.Listen, listen).Allow("host:port").Describe(ours+"internal HTTP API, for the api's live reads; guarded by `internal.shared_secret`. The single binary does not open it", agent),
		conf.Int("agent.max_sandboxes", &v.MaxSandboxes, 0, 1<<30).Describe(ours+"sandboxes on this node; 0: no bound. `scheduler.max_sandboxes` is its old name", agent),
		cpu("agent.capacity_cpu", &v.Capacity.CPU).Describe(ours+"processor that may be reserved on this node; none: no bound", agent),
		memory("agent.capacity_memory", &v.Capacity.Memory).Describe(ours+"memory that may be reserved on this node; none: no bound", agent),
		conf.Texts("agent.labels", &v.Labels, label).Describe(ours+"facts about this node, as `name = \"value\"`; in the variable `name=value,…`", agent),
	}
}

func routerKeys(s *Settings) []conf.Key {
	return []conf.Key{
		conf.String("router.listen", &s.Router.Listen, listen).Allow("host:port").Describe(ours+"user traffic to sandbox ports; `127.0.0.1` without a configuration file, the host of `server.host` in the single binary", router),
	}
}

func renewKeys(s *Settings) []conf.Key {
	v := &s.RenewIntent
	q := &v.Queue
	return []conf.Key{
		conf.Bool("renew_intent.enabled", &v.Enabled).Describe("access to a sandbox that asked for it at create renews its deadline", api, scheduler, router),
		conf.Seconds("renew_intent.min_interval_seconds", &v.MinInterval, 1, day).Describe("shortest time between two renewals of one sandbox", api, router),
		conf.Bool("renew_intent.redis.enabled", &q.Enabled).Describe("hand intents over by a Redis list that other gateways may write, too; else by one beside the records", scheduler, router),
		conf.Hidden("renew_intent.redis.dsn", &q.url, blankOr(redisURL)).Allow("URL").Describe("where that Redis is; required with `renew_intent.redis.enabled`", scheduler, router),
		conf.String("renew_intent.redis.queue_key", &q.Key, filled).Describe("name of the list", scheduler, router),
		conf.Int("renew_intent.redis.consumer_concurrency", &q.Concurrency, 1, 1024).Describe("renewals at once", scheduler),
	}
}

func internalKeys(s *Settings) []conf.Key {
	return []conf.Key{
		conf.Hidden("internal.shared_secret", &s.Internal.SharedSecret, sharedSecret).Allow("16 characters or more").
			Describe(ours+"what the split services show each other; required by api and agent, and by the single binary with `redis`; the same for all", api, agent),
	}
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
	return k.Allow(word)
}

func pathKey(name string, to *string, home string) conf.Key {
	return conf.String(name, to, filled).Then(func() error { *to = expand(*to, home); return nil }).Allow("path; ~/ is the home directory")
}

func cpu(name string, milli *int64) conf.Key {
	return amount(name, milli, sandbox.ParseCPU, "m").Allow(`"1.5", "500m"`)
}

func memory(name string, bytes *int64) conf.Key {
	return amount(name, bytes, sandbox.ParseMemory, "").Allow(`"512Mi", "2Gi"`)
}

func amount(name string, to *int64, parse func(string) (int64, error), unit string) conf.Key {
	var s string
	k := conf.String(name, &s, nil).Then(func() error {
		n, err := parse(s)
		if err != nil {
			return errors.New(fault.TextOf(err))
		}
		*to = n
		return nil
	})
	k.Get = func() any {
		if *to == 0 {
			return ""
		}
		return strconv.FormatInt(*to, 10) + unit
	}
	return k
}

// blankOr takes empty text for no value.
func blankOr(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}
