// Package settings is the configuration that all processes share: the TOML keys of OpenSandbox 1.1.1 that have a meaning here, our own,
// their defaults and ranges, and the environment variables that go over them. It opens no connection and knows no engine and no store.
package settings

import (
	"io"
	"net/netip"
	"time"

	"opensandbox/libs/conf"
	"opensandbox/libs/sandbox"
)

// Settings is the whole configuration. The zero value is not usable: see Read and Default.
type Settings struct {
	Server        Server
	Proxy         Proxy
	Log           Log
	Runtime       Runtime
	Docker        Docker
	Storage       Storage
	Ingress       Ingress
	Egress        Egress
	Kubernetes    Kubernetes
	SecureRuntime SecureRuntime
	Tenants       Tenants
	OTel          OTel
	Store         Store
	Scheduler     Scheduler
	Agent         Agent
	Router        Router
	RenewIntent   RenewIntent
	Internal      Internal

	// Path is the file that was read; empty when there was none.
	Path string
	// Warnings are worth a line in the log at the start.
	Warnings []string
	// Insecure is set by OPENSANDBOX_INSECURE_SERVER=YES: see Guard.
	Insecure bool

	process Process
	loaded  *conf.Loaded
}

// Server is the section of the API listener.
type Server struct {
	Host           string
	Port           int
	APIKey         conf.Secret
	External       string
	MaxTimeout     time.Duration
	KeepAlive      time.Duration
	MaxConcurrency int
	Grace          time.Duration
	// Backlog is how many connections may wait to be taken.
	Backlog int
	// DrainDelay is how long API and router go on after SIGTERM while their health says that they are leaving.
	DrainDelay   time.Duration
	CreateWait   time.Duration
	RetainFailed time.Duration
	// AdminListen is host:port of /metrics, /health and /ready; empty: off.
	AdminListen  string
	Installation string
	// Forwarders are the networks of the proxies that are believed what they say of their clients (FORWARDED_ALLOW_IPS).
	Forwarders []netip.Prefix
}

// Log is the section of the log. Level is DEBUG, INFO, WARNING, ERROR or CRITICAL; Format is text or json.
type Log struct {
	Level, Format string
	// FileEnabled sends the log to files in place of standard error.
	FileEnabled              bool
	FilePath, AccessFilePath string
	// FileMaxBytes is the size at which a file is put aside; FileBackups of those are kept.
	FileMaxBytes, FileBackups int
}

// Proxy is the section of the server's own proxy of sandbox ports.
type Proxy struct {
	// ResolveInternal sends requests to the address of the container; false: to its published port.
	ResolveInternal bool
}

// Networks that every engine has.
const (
	NetworkBridge = "bridge"
	NetworkHost   = "host"
)

// Docker is the section of the engine.
type Docker struct {
	// NetworkMode is NetworkBridge, NetworkHost or the name of a network of the engine.
	NetworkMode      string
	APITimeout       time.Duration
	PullTimeout      time.Duration
	HostIP           string
	DropCapabilities []string
	// AllowedRuntimes are the isolation runtimes that a create may choose.
	AllowedRuntimes  []string
	NoNewPrivileges  bool
	PidsLimit        int
	PortMin, PortMax int
	PublishHost      string
	MaxConcurrency   int
	// AppArmorProfile is the name of a profile; empty: the engine's own.
	AppArmorProfile string
	// SeccompProfile is the absolute path of a file on the node, a profile in JSON (it begins with a brace), "builtin" or "unconfined";
	// empty: the engine's own.
	SeccompProfile string
	// SandboxEnv are variables for every sandbox. Their values may be secrets.
	SandboxEnv conf.SecretTexts
	// SandboxBinds are src:dst or src:dst:mode, in form; whether src exists shows on the node.
	SandboxBinds []string
}

// Storage is the section of what a create may mount.
type Storage struct {
	// AllowedHostPaths are absolute; symbolic links in them are not resolved yet. None: no host volumes.
	AllowedHostPaths []string
	// VolumeDefaultSize and OSSFSMountRoot have no effect yet.
	VolumeDefaultSize, OSSFSMountRoot string
}

// Kinds of store.
const (
	StoreSQLite = "sqlite"
	StoreRedis  = "redis"
)

// Store is the section of the store.
type Store struct {
	// Type is StoreSQLite or StoreRedis.
	Type string
	// Path is the file of SQLite. The installation's key lies beside it with either store.
	Path string
	// Redis says where Redis is; it is set if Type is StoreRedis.
	Redis RedisURL
	// Durable makes a write of an intent wait until it is on disk and on a replica.
	Durable bool

	url conf.Secret
}

// Scheduler is the section of the scheduler.
type Scheduler struct {
	PlacementWait  time.Duration
	DefaultRequest sandbox.Resources
	// NodeLostAfter is how long a node may be unreachable before its sandboxes are given up.
	NodeLostAfter time.Duration
}

// Agent is the section of the agent.
type Agent struct {
	StateDir, Node, ExecdPath string
	// Host is where clients reach the leased ports of this node; empty: the caller derives it.
	Host string
	// Listen is host:port of the agent's internal HTTP API.
	Listen string
	// MaxSandboxes and Capacity bound what is placed on this node; zero means no bound.
	MaxSandboxes int
	Capacity     sandbox.Resources
	// Labels are facts about the node that a placement may ask for.
	Labels map[string]string
}

// Router is the section of the router. Listen is host:port.
type Router struct{ Listen string }

// RenewIntent is the section of renewals on access.
type RenewIntent struct {
	Enabled bool
	// MinInterval is the shortest time between two renewals of one sandbox.
	MinInterval time.Duration
	// Queue says where intents of others come from.
	Queue RenewQueue
}

// RenewQueue is a Redis list that gateways write intents to.
type RenewQueue struct {
	Enabled bool
	// Redis is set if Enabled.
	Redis       RedisURL
	Key         string
	Concurrency int

	url conf.Secret
}

// Internal is what the split processes share among themselves.
type Internal struct {
	// SharedSecret guards the internal HTTP API.
	SharedSecret conf.Secret
}

// Print writes the configuration that holds as TOML, with secrets masked and the origin of each value as a comment.
func (s Settings) Print(w io.Writer) error { return s.loaded.Print(w) }

// Origin says where the value of a key, such as server.port, came from: "file", the name of a variable, or "default".
func (s Settings) Origin(key string) string { return s.loaded.Origin(key) }
