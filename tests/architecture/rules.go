// Package architecture holds the import rules of the project: domain ← ports ← {use cases, adapters}; use cases ← transports ← app;
// {app, stores} ← cmd. Arrows never turn, and adapters never meet.
package architecture

import (
	"fmt"
	"slices"
	"strings"
)

// Package is what the rules need to know of a package.
type Package struct {
	// Path is the import path, Dir the folder.
	Path, Dir string
	// Imports are those of its own files, Deps all that are reached through them, both without tests.
	Imports, Deps []string
	// Standard are the packages among Deps that belong to the standard library.
	Standard map[string]bool
}

const root = "opensandbox/"

// kind is a group of packages with the same rights.
type kind struct {
	name string
	// member reports whether a path belongs to the group.
	member func(path string) bool
	// may are the packages of this repository that it may import, as exact paths or with a trailing * for all below.
	may []string
	// never are packages that must not even be reached.
	never []string
	// thirdParty says whether packages of others may be imported.
	thirdParty bool
}

func is(paths ...string) func(string) bool {
	return func(p string) bool { return slices.Contains(paths, strings.TrimPrefix(p, root)) }
}

func under(parts ...string) func(string) bool {
	return func(p string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.HasPrefix(strings.TrimPrefix(p, root), part) })
	}
}

// technology is what neither domain nor use cases nor steps may know.
var technology = []string{"net/http", "database/sql", "github.com/go-kit/kit*", "github.com/docker/docker*", "modernc.org/sqlite*", "github.com/redis/*", "k8s.io/*"}

// engines are the technologies behind the ports.
var engines = []string{"database/sql", "github.com/docker/docker*", "github.com/redis/*", "github.com/go-kit/kit*", "k8s.io/*"}

// kinds is the table of rights. A package belongs to the first group that claims it.
var kinds = []kind{
	{"fault", is("libs/fault"), nil, technology, false},
	{"domain", is("libs/sandbox"), []string{"libs/fault"}, technology, false},
	{"ports", is("libs/executor", "libs/node"), []string{"libs/fault", "libs/sandbox"}, technology, false},
	{"suites and fakes", under("libs/sandbox/sandboxtest", "libs/node/nodetest", "libs/executor/executortest", "libs/executor/fakeexec", "libs/redisstore/redistest", "libs/secrettest", "libs/terminaltest"),
		[]string{"libs/fault", "libs/sandbox", "libs/node", "libs/executor"}, nil, true},
	{"hints", is("libs/wakeup"), []string{"libs/sandbox"}, technology, false},
	{"stores", is("libs/memstore", "libs/sqlitestore", "libs/redisstore"), []string{"libs/fault", "libs/sandbox", "libs/node", "libs/wakeup"}, []string{"github.com/go-kit/kit*"}, true},
	{"measured engine", is("libs/agentmetrics"), []string{"libs/fault", "libs/sandbox", "libs/executor"}, []string{"database/sql", "github.com/docker/docker*", "github.com/redis/*", "github.com/go-kit/kit*"}, true},
	{"live reads", is("libs/agentrpc"), []string{"libs/fault", "libs/sandbox", "libs/node", "libs/executor", "libs/kitx", "libs/httpx", "libs/telemetry"},
		[]string{"github.com/docker/docker*", "github.com/redis/*"}, true},
	{"measured store", is("libs/storemetrics"), []string{"libs/fault", "libs/sandbox", "libs/node"}, engines, true},
	{"sabotage", is("libs/sabotage"), []string{"libs/fault", "libs/sandbox", "libs/node", "libs/executor"}, engines, false},
	{"measured scheduler", is("libs/schedulermetrics"), nil, engines, true},
	{"process", is("libs/process"), []string{"libs/httpx", "libs/installation", "libs/lifecycle", "libs/redisstore", "libs/sabotage", "libs/sandbox", "libs/settings", "libs/storemetrics", "libs/telemetry"},
		[]string{"github.com/docker/docker*", "github.com/go-kit/kit*", "modernc.org/sqlite*"}, true},
	{"command line", is("libs/cli"), []string{"libs/conf", "libs/settings"}, []string{"github.com/go-kit/kit*"}, true},
	{"go-kit glue", is("libs/kitx"), []string{"libs/fault", "libs/telemetry"}, nil, true},
	{"settings", is("libs/settings"), []string{"libs/conf", "libs/fault", "libs/sandbox"}, technology, true},
	{"installation", is("libs/installation"), []string{"libs/sandbox"}, technology, false},
	{"plumbing", is("libs/conf", "libs/plainhttp", "libs/telemetry", "libs/lifecycle", "libs/steploop"), nil, []string{"github.com/go-kit/kit*"}, true},
	{"listeners", is("libs/httpx"), []string{"libs/plainhttp"}, []string{"github.com/go-kit/kit*"}, true},
	{"queues", is("services/scheduler/internal/redisqueue", "libs/sandboxproxy/renewintent/redisqueue"),
		[]string{"services/scheduler/internal/renewintent", "libs/sandboxproxy/renewintent"}, []string{"database/sql", "github.com/docker/docker*", "github.com/go-kit/kit*"}, true},
	{"fakes of the proxy", is("libs/sandboxproxy/resolve/resolvetest"), []string{"libs/fault", "libs/sandbox", "libs/node", "libs/memstore"}, nil, true},
	// They keep what they know in a map of bounded size that others have written.
	{"steps of the proxy", is("libs/sandboxproxy/target", "libs/sandboxproxy/resolve", "libs/sandboxproxy/renewintent"),
		[]string{"libs/fault", "libs/sandbox", "libs/node", "libs/sandboxproxy/target"}, technology, true},
	{"transport of the proxy", is("libs/sandboxproxy"),
		[]string{"libs/fault", "libs/sandbox", "libs/kitx", "libs/httpx", "libs/sandboxproxy/target", "libs/sandboxproxy/resolve", "libs/sandboxproxy/renewintent"},
		[]string{"database/sql", "github.com/docker/docker*", "github.com/redis/*"}, true},
	{"measured proxy", is("libs/sandboxproxy/proxymetrics"),
		[]string{"libs/sandboxproxy", "libs/sandboxproxy/resolve", "libs/sandboxproxy/renewintent"}, []string{"database/sql", "github.com/docker/docker*", "github.com/redis/*"}, true},
	{"paths of the server's proxy", is("services/api/internal/proxy"),
		[]string{"libs/fault", "libs/sandbox", "libs/kitx", "libs/sandboxproxy", "libs/sandboxproxy/target", "libs/sandboxproxy/resolve"},
		[]string{"database/sql", "github.com/docker/docker*", "github.com/redis/*"}, true},
	{"use cases and steps", under("services/api/internal/usecase", "services/scheduler/internal/", "services/runtime-agent/internal/converge",
		"services/runtime-agent/internal/worker", "services/runtime-agent/internal/enginewatch", "services/runtime-agent/internal/beat", "services/runtime-agent/internal/mirror",
		"services/runtime-agent/internal/history", "services/runtime-agent/internal/inventory", "services/runtime-agent/internal/recovery"),
		[]string{"libs/fault", "libs/sandbox", "libs/node", "libs/executor", "services/runtime-agent/internal/converge"}, technology, false},
	{"transports", under("services/api/internal/httpapi"), []string{"libs/fault", "libs/sandbox", "libs/kitx", "services/api/internal/usecase"}, []string{"database/sql", "github.com/docker/docker*"}, true},
	{"engine adapters", under("services/runtime-agent/internal/docker", "services/runtime-agent/internal/delivery"),
		[]string{"libs/fault", "libs/sandbox", "libs/executor", "services/runtime-agent/internal/delivery"}, []string{"database/sql", "github.com/go-kit/kit*"}, true},
	{"daemon", under("services/execd"), []string{"libs/fault", "services/execd/*"}, []string{"github.com/docker/docker*", "database/sql"}, true},
	{"single binary", under("services/allinone/"), []string{"libs/*", "services/api/app", "services/scheduler/app", "services/runtime-agent/app", "services/ingress-router/app"}, nil, true},
	{"apps", func(p string) bool { return strings.HasSuffix(p, "/app") && strings.HasPrefix(p, root+"services/") },
		[]string{"libs/fault", "libs/sandbox", "libs/node", "libs/executor", "libs/kitx", "libs/httpx", "libs/telemetry", "libs/lifecycle", "libs/steploop", "libs/agentmetrics", "libs/agentrpc", "libs/sabotage", "libs/schedulermetrics", "libs/sandboxproxy*", "libs/wakeup", "own"}, nil, true},
	{"programs", func(p string) bool { return strings.Contains(p, "/cmd/opensandbox-") },
		[]string{"libs/*", "services/api/app", "services/scheduler/app", "services/runtime-agent/app", "services/ingress-router/app"}, nil, true},
	{"tests", under("tests/"), []string{"libs/*", "services/*", "tests/*"}, nil, true},
}

// vague are package names that say nothing.
var vague = []string{"utils", "util", "common", "models", "model", "helpers", "helper", "misc", "base", "shared"}

// Check returns what a package does against the rules.
func Check(p Package) []string {
	var faults []string
	blame := func(format string, args ...any) { faults = append(faults, p.Path+": "+fmt.Sprintf(format, args...)) }
	name := p.Path[strings.LastIndexByte(p.Path, '/')+1:]
	if slices.Contains(vague, name) {
		blame("the name %q says nothing about its content", name)
	}
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.member(p.Path) })
	if i < 0 {
		blame("belongs to no group: add it to the table of rights")
		return faults
	}
	k := kinds[i]
	for _, imp := range p.Imports {
		switch {
		case strings.HasPrefix(imp, root):
			if !allowed(k, p.Path, imp) {
				blame("%s must not import %s", k.name, imp)
			}
		case !p.Standard[imp] && !k.thirdParty:
			blame("%s must not import %s, which is not in the standard library", k.name, imp)
		}
		if strings.HasPrefix(imp, "github.com/go-kit/kit") && k.name != "go-kit glue" {
			blame("only libs/kitx imports go-kit")
		}
	}
	for _, dep := range p.Deps {
		if slices.ContainsFunc(k.never, func(n string) bool { return match(n, dep) }) {
			blame("%s must not reach %s", k.name, dep)
		}
	}
	return faults
}

func allowed(k kind, path, imp string) bool {
	if strings.HasPrefix(imp, path+"/") {
		return true
	}
	for _, m := range k.may {
		if m == "own" {
			service := strings.TrimSuffix(path, "/app")
			if strings.HasPrefix(imp, service+"/internal/") {
				return true
			}
			continue
		}
		if match(root+m, imp) {
			return true
		}
	}
	return false
}

func match(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return pattern == path
}
