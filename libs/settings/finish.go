package settings

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"opensandbox/libs/conf"
)

// finish derives what follows from several keys, and checks what concerns several.
func finish(s *Settings) error {
	l := s.loaded
	var mistakes []error
	refuse := func(key, problem string) { mistakes = append(mistakes, l.Mistake(key, problem)) }

	if ports := s.Docker.PortMax - s.Docker.PortMin + 1; ports < minPorts {
		key := "docker.port_range_min"
		if !l.Set(key) {
			key = "docker.port_range_max"
		}
		refuse(key, fmt.Sprintf("docker.port_range_min to docker.port_range_max is %d to %d, which is %d ports; at least %d are needed, both ends included",
			s.Docker.PortMin, s.Docker.PortMax, max(ports, 0), minPorts))
	}
	if s.process == ProcessServer && !l.Set("router.listen") {
		// A server that is kept from a network must not be reached through its router.
		s.Router.Listen = net.JoinHostPort(s.Server.Host, routerPort)
	}
	s.Store.Redis = parsed(s.Store.url)
	if s.Store.Type == StoreRedis && !s.Store.url.IsSet() {
		refuse("store.type", "needs store.redis_url ("+conf.VariableOf("store.redis_url")+")")
	}
	q := &s.RenewIntent.Queue
	q.Redis = parsed(q.url)
	if q.Enabled && !q.url.IsSet() {
		refuse("renew_intent.redis.enabled", "needs renew_intent.redis.dsn ("+conf.VariableOf("renew_intent.redis.dsn")+")")
	}
	if l.Set("scheduler.max_sandboxes") && l.Set("agent.max_sandboxes") {
		refuse("agent.max_sandboxes", "scheduler.max_sandboxes is the old name of the same key; keep this one")
	}
	mistakes = append(mistakes, checkKubernetes(s), checkIngress(s), checkEgress(s), checkSecureRuntime(s), checkTenants(s))
	mistakes = append(mistakes, split(s)...)
	return errors.Join(append(mistakes, clashes(s)...)...)
}

// routerPort is the router's default.
const routerPort = "8081"

// minPorts is the smallest range of ports, both ends included. OpenSandbox 1.1.1 wants one more, because it compares the difference
// of the two with 100.
const minPorts = 100

// parsed is called with what has passed its check.
func parsed(url conf.Secret) RedisURL {
	u, err := ParseRedisURL(url.Reveal())
	if err != nil {
		return RedisURL{}
	}
	return u
}

// split checks what processes need that share a store with others.
func split(s *Settings) []error {
	var mistakes []error
	if s.process != ProcessServer && s.Store.Type != StoreRedis {
		mistakes = append(mistakes, s.loaded.Mistake("store.type", fmt.Sprintf(`%s shares its store with other processes, which needs "redis"; "sqlite" is for %s`, s.process, ProcessServer)))
	}
	makesTokens := s.process == ProcessAPI || s.process == ProcessAgent || s.process == ProcessServer && s.Store.Type == StoreRedis
	if makesTokens && !s.Internal.SharedSecret.IsSet() {
		mistakes = append(mistakes, s.loaded.Mistake("internal.shared_secret", "must be set ("+conf.VariableOf("internal.shared_secret")+"): it guards what api and agents say to each other"))
	}
	return mistakes
}

// listener is an address that a process listens on, and the key that names it.
type listener struct{ key, host, port string }

// clashes finds listeners of this process that want the same port.
func clashes(s *Settings) []error {
	var mistakes []error
	all := listeners(s)
	for i, a := range all {
		for _, b := range all[:i] {
			if a.port == b.port && a.port != "0" && overlap(a.host, b.host) {
				mistakes = append(mistakes, s.loaded.Mistake(a.key, fmt.Sprintf("port %s is taken by %s too", a.port, b.key)))
			}
		}
	}
	return mistakes
}

func listeners(s *Settings) []listener {
	var all []listener
	add := func(key, address string, processes ...Process) {
		host, port, err := net.SplitHostPort(address)
		for _, p := range processes {
			if err == nil && p == s.process {
				all = append(all, listener{key, host, port})
			}
		}
	}
	add("server.port", net.JoinHostPort(s.Server.Host, strconv.Itoa(s.Server.Port)), ProcessServer, ProcessAPI)
	// The default of the router gives way in the single binary, where server.port may well be 8081; so does that of the admin listener.
	if s.process == ProcessRouter || s.loaded.Set("router.listen") {
		add("router.listen", s.Router.Listen, ProcessServer, ProcessRouter)
	}
	add("agent.listen", s.Agent.Listen, ProcessAgent)
	if s.loaded.Set("server.admin_listen") {
		add("server.admin_listen", s.Server.AdminListen, s.process)
	}
	return all
}

// overlap reports whether two hosts can mean the same address.
func overlap(a, b string) bool { return a == b || everywhere(a) || everywhere(b) }

func everywhere(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || err == nil && a.IsUnspecified()
}

// advice is about settings that hold and may surprise.
func advice(s *Settings) []string {
	l, serves := s.loaded, s.process == ProcessServer || s.process == ProcessAPI
	var out []string
	switch {
	case s.Path == "" && serves && !l.Set("server.host"):
		out = append(out, "no configuration file: Docker, bridge network, listening on 127.0.0.1 only; see --config")
	case s.Path == "" && s.process == ProcessRouter && !l.Set("router.listen"):
		out = append(out, "no configuration file: listening on 127.0.0.1 only; see --config")
	case s.Path != "" && s.Runtime.Type == RuntimeDocker && (s.process == ProcessServer || s.process == ProcessAgent) && !l.Set("docker.network_mode"):
		out = append(out, `docker.network_mode is not set: using "bridge" (OpenSandbox 1.1.1 used "host")`)
	}
	if serves && s.Insecure && !s.hasKey() {
		out = append(out, s.KeylessWarning())
	}
	for _, table := range idleTables {
		if l.SetBelow(table) {
			out = append(out, "["+table+"]: "+notYet)
		}
	}
	if s.Store.Type == StoreSQLite {
		for _, key := range []string{"store.redis_url", "store.durable"} {
			if l.Set(key) {
				out = append(out, key+` has no effect with store.type = "sqlite"`)
			}
		}
	}
	return out
}
