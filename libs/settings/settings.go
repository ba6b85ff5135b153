// Package settings is the configuration of the server: the TOML keys of OpenSandbox 1.1.1 that have a meaning here, our own, their
// defaults and ranges, and the environment variables that override them.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"opensandbox/libs/conf"
	"opensandbox/libs/sandbox"
)

// Settings is the whole configuration. The zero value is not usable: see Default.
type Settings struct {
	Server    Server
	Log       Log
	Docker    Docker
	Store     Store
	Agent     Agent
	Scheduler Scheduler
	// Path is the file that was read; empty when there was none.
	Path string
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
	CreateWait     time.Duration
	RetainFailed   time.Duration
	AdminListen    string
	Installation   string
}

// Log is the section of the log.
type Log struct{ Level, Format string }

// Docker is the section of the engine.
type Docker struct {
	NetworkMode      string
	APITimeout       time.Duration
	PullTimeout      time.Duration
	HostIP           string
	DropCapabilities []string
	NoNewPrivileges  bool
	PidsLimit        int
	PortMin, PortMax int
	PublishHost      string
	MaxConcurrency   int
}

// Store is the section of the store.
type Store struct{ Path string }

// Agent is the section of the agent.
type Agent struct{ StateDir, Node, ExecdPath string }

// Scheduler is the section of the scheduler.
type Scheduler struct {
	PlacementWait  time.Duration
	DefaultRequest sandbox.Resources
	MaxSandboxes   int
}

// Default returns the settings that hold where the file is silent. home is the home directory of the server's user.
func Default(home string) Settings {
	data := filepath.Join(home, ".opensandbox")
	node, err := os.Hostname()
	if err != nil || node == "" {
		node = "local"
	}
	return Settings{
		Server: Server{Host: "0.0.0.0", Port: 8080, KeepAlive: 30 * time.Second, MaxConcurrency: 1024, Grace: 5 * time.Second,
			CreateWait: 20 * time.Second, RetainFailed: time.Hour, AdminListen: DefaultAdminListen},
		Log: Log{Level: "INFO", Format: "text"},
		Docker: Docker{NetworkMode: "bridge", APITimeout: 180 * time.Second, PullTimeout: 10 * time.Minute,
			DropCapabilities: []string{"AUDIT_WRITE", "MKNOD", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_TIME", "SYS_TTY_CONFIG"},
			NoNewPrivileges:  true, PidsLimit: 4096, PortMin: 40000, PortMax: 60000, PublishHost: "0.0.0.0"},
		Store: Store{Path: filepath.Join(data, "opensandbox.db")},
		Agent: Agent{StateDir: filepath.Join(data, "state"), Node: node},
	}
}

// DefaultAdminListen is where metrics and readiness are served unless configured. If it is taken, a free port is used instead.
const DefaultAdminListen = "127.0.0.1:9090"

// Environment variables of OpenSandbox 1.1.1.
const (
	envPath     = "SANDBOX_CONFIG_PATH"
	envAPIKey   = "OPENSANDBOX_SERVER_API_KEY" //nolint:gosec // the name of a variable, not a credential
	envInsecure = "OPENSANDBOX_INSECURE_SERVER"
)

// Load reads the configuration: the file at path if that is not empty, else the one that SANDBOX_CONFIG_PATH names, else ~/.sandbox.toml if
// it exists, else none. The error joins one line for each mistake.
func Load(path string, lookup func(string) (string, bool)) (s Settings, warnings []string, err error) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/root" // a service without HOME
	}
	s = Default(home)
	file, path, err := read(path, home, lookup)
	if err != nil {
		return s, nil, err
	}
	s.Path = path
	if path == "" {
		s.Server.Host = "127.0.0.1"
		warnings = append(warnings, "no configuration file: Docker, bridge network, listening on 127.0.0.1 only; see --config")
	} else {
		warnings, err = conf.Load(file, keys(&s, home))
		warnings, err = check(&s, file, warnings, err)
		if err != nil {
			return s, warnings, fmt.Errorf("%s:\n%w", path, err)
		}
	}
	if key, ok := lookup(envAPIKey); ok {
		s.Server.APIKey = conf.Secret(key)
	}
	return s, warnings, nil
}

// check looks at what concerns several keys.
func check(s *Settings, file []byte, warnings []string, err error) ([]string, error) {
	if s.Docker.PortMax-s.Docker.PortMin < 100 {
		err = errors.Join(err, fmt.Errorf("docker.port_range_min = %d, docker.port_range_max = %d: the range must span at least 100 ports", s.Docker.PortMin, s.Docker.PortMax))
	}
	if !strings.Contains(string(file), "network_mode") {
		warnings = append(warnings, `docker.network_mode is not set: using "bridge" (OpenSandbox 1.1.1 used "host")`)
	}
	return warnings, err
}

func read(path, home string, lookup func(string) (string, bool)) ([]byte, string, error) {
	if path == "" {
		path, _ = lookup(envPath)
	}
	if path != "" {
		path = expand(path, home)
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, "", fmt.Errorf("configuration file: %w", err)
		}
		return b, path, nil
	}
	path = filepath.Join(home, ".sandbox.toml")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("configuration file: %w", err)
	}
	return b, path, nil
}

func expand(path, home string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		return filepath.Join(home, path[1:])
	}
	return path
}

// Guard refuses to serve without an API key unless the operator has said so: anyone who reaches the port could run code.
func Guard(s Settings, lookup func(string) (string, bool)) error {
	if strings.TrimSpace(s.Server.APIKey.Reveal()) != "" {
		return nil
	}
	if v, _ := lookup(envInsecure); v == "YES" {
		return nil
	}
	return fmt.Errorf("no API key is configured: set server.api_key or %s, or set %s=YES to let anyone who can reach %s:%d create sandboxes", envAPIKey, envInsecure, s.Server.Host, s.Server.Port)
}
