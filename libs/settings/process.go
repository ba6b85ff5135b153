package settings

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Process is one of the programs that share a configuration.
type Process string

// The programs. ProcessServer is all the others in one.
const (
	ProcessServer    Process = "opensandbox-server"
	ProcessAPI       Process = "opensandbox-api"
	ProcessScheduler Process = "opensandbox-scheduler"
	ProcessAgent     Process = "opensandbox-agent"
	ProcessRouter    Process = "opensandbox-router"
)

// ProcessName is the name of the program that the settings were read for.
func (s Settings) ProcessName() string { return string(s.process) }

// ServesAPI says whether the program answers clients of the lifecycle API.
func (s Settings) ServesAPI() bool { return s.process == ProcessServer || s.process == ProcessAPI }

// DefaultAdminListen is where the single binary serves metrics and readiness unless configured. If it is taken, a free port is used
// instead.
const DefaultAdminListen = "127.0.0.1:9090"

// adminListen gives each program an address of its own, so that all can run on one machine.
func adminListen(p Process) string {
	switch p {
	case ProcessAPI:
		return "127.0.0.1:9091"
	case ProcessScheduler:
		return "127.0.0.1:9092"
	case ProcessAgent:
		return "127.0.0.1:9093"
	case ProcessRouter:
		return "127.0.0.1:9094"
	}
	return DefaultAdminListen
}

// Default returns the settings that hold where file and environment are silent. home is the home directory of the process's user.
func Default(home string, p Process) Settings {
	data := filepath.Join(home, ".opensandbox")
	node, err := os.Hostname()
	if err != nil || nodeName(node) != nil {
		node = "local"
	}
	return Settings{
		Server: Server{Host: "0.0.0.0", Port: 8080, KeepAlive: 30 * time.Second, MaxConcurrency: 1024, Backlog: 2048, Grace: 5 * time.Second,
			CreateWait: 20 * time.Second, RetainFailed: time.Hour, AdminListen: adminListen(p)},
		Proxy:      Proxy{ResolveInternal: true},
		Runtime:    Runtime{Type: RuntimeDocker},
		Ingress:    Ingress{Mode: ingressDirect},
		Egress:     Egress{Mode: egressDNS, DisableIPv6: true, ReadinessTimeout: 30 * time.Second},
		Tenants:    Tenants{Provider: "file", MaxStale: 300 * time.Second, Timeout: 5 * time.Second},
		OTel:       OTel{ServiceName: "opensandbox-server", Interval: time.Minute},
		Kubernetes: defaultKubernetes(),
		Log: Log{Level: "INFO", Format: "text", FilePath: filepath.Join(home, "logs/opensandbox", logName(p)),
			AccessFilePath: filepath.Join(home, "logs/opensandbox/access.log"), FileMaxBytes: 100 << 20, FileBackups: 5},
		Storage: Storage{VolumeDefaultSize: "1Gi", OSSFSMountRoot: "/mnt/ossfs"},
		Docker: Docker{NetworkMode: NetworkBridge, APITimeout: 180 * time.Second, PullTimeout: 10 * time.Minute,
			DropCapabilities: []string{"AUDIT_WRITE", "MKNOD", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_TIME", "SYS_TTY_CONFIG"},
			NoNewPrivileges:  true, PidsLimit: 4096, PortMin: 40000, PortMax: 60000, PublishHost: "0.0.0.0"},
		Store:       Store{Type: StoreSQLite, Path: filepath.Join(data, "opensandbox.db")},
		Scheduler:   Scheduler{NodeLostAfter: 10 * time.Minute},
		Agent:       Agent{StateDir: filepath.Join(data, "state"), Node: node, Listen: "127.0.0.1:8090"},
		Router:      Router{Listen: "0.0.0.0:" + routerPort},
		RenewIntent: RenewIntent{MinInterval: time.Minute, Queue: RenewQueue{Key: "opensandbox:renew:intent", Concurrency: 8}},
		process:     p,
	}
}

// logName keeps processes with one file of configuration apart.
func logName(p Process) string { return strings.TrimPrefix(string(p), "opensandbox-") + ".log" }

// HealthURL is where this process answers whether it runs: the API's own listener, or /health beside the metrics for processes that
// serve something else or nothing to clients. It fails if the configuration leaves nothing to ask.
func (s Settings) HealthURL() (string, error) {
	host, port := s.Server.Host, strconv.Itoa(s.Server.Port)
	if s.process != ProcessServer && s.process != ProcessAPI {
		if s.Server.AdminListen == "" {
			return "", errors.New("server.admin_listen is empty, so this process has no health to ask for")
		}
		var err error
		if host, port, err = net.SplitHostPort(s.Server.AdminListen); err != nil {
			return "", errors.New("server.admin_listen is not host:port")
		}
		if port == "0" {
			return "", errors.New("server.admin_listen has port 0, so only the process itself knows where it listens")
		}
	}
	return "http://" + net.JoinHostPort(reachable(host), port) + "/health", nil
}

// reachable is a host at which this machine reaches a listener: one on all addresses is asked on the loopback.
func reachable(host string) string {
	a, err := netip.ParseAddr(host)
	switch {
	case host == "":
		return "127.0.0.1"
	case err != nil || !a.IsUnspecified():
		return host
	case a.Is4():
		return "127.0.0.1"
	}
	return "::1"
}
