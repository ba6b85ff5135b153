// Package split has what tests tell the split services of a platform, and how they look into its store. It is imported by tests only.
package split

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"opensandbox/libs/installation"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
)

// Settings are those that all services have in common.
type Settings struct {
	APIKey, Installation, Secret string
	// RedisURL is where the store is, and Durable whether writes wait for its replica.
	RedisURL string
	Durable  bool
}

// NewSettings returns those of an installation that nobody else has. They lack the store.
func NewSettings(name, apiKey string) Settings {
	return Settings{APIKey: apiKey, Installation: fmt.Sprintf("%s-%x", name, rand.Uint64()), Secret: secrettest.New("the shared secret")}
}

// TOML is the configuration file of all services.
func (s Settings) TOML() string {
	return fmt.Sprintf(`
[server]
host = "127.0.0.1"
api_key = %q
admin_listen = ""
installation_id = %q
[runtime]
type = "docker"
execd_image = "unused"
[docker]
network_mode = "bridge"
[store]
type = "redis"
redis_url = %q
durable = %t
[internal]
shared_secret = %q
`, s.APIKey, s.Installation, s.RedisURL, s.Durable, s.Secret)
}

// OpenStore connects to the store by a configuration that leads to the same Redis, until the end of the test.
func (s Settings) OpenStore(t testing.TB, c redisstore.ClientConfig) *redisstore.Store {
	t.Helper()
	inst, err := installation.Shared(s.Installation, s.Secret)
	if err != nil {
		t.Fatal(err)
	}
	client, err := redisstore.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	store, err := redisstore.Open(t.Context(), redisstore.Config{
		Client: client, Installation: inst.ID(), Fingerprint: inst.Fingerprint(), Topics: []sandbox.Topic{sandbox.TopicRollCall},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() }) // the test has read what it wanted
	return store
}

// Agent is what one agent is told in addition.
type Agent struct {
	Node, StateDir string
	// Listen is the address for the apis, and Host where the ports of sandboxes are reached.
	Listen, Host string
	// The ports of sandboxes are those from PortMin to PortMax.
	PortMin, PortMax int
	// Engine is its DOCKER_HOST; empty for that of the tests.
	Engine string
}

// Env are its variables.
func (a Agent) Env() []string {
	publish := "0.0.0.0" // reached from outside of the network that the engine is in
	if a.Host == "127.0.0.1" {
		publish = a.Host
	}
	env := []string{
		"OPENSANDBOX_AGENT_NODE=" + a.Node, "OPENSANDBOX_AGENT_STATE_DIR=" + a.StateDir,
		"OPENSANDBOX_AGENT_LISTEN=" + a.Listen, "OPENSANDBOX_AGENT_HOST=" + a.Host, "OPENSANDBOX_DOCKER_PUBLISH_HOST=" + publish,
		fmt.Sprintf("OPENSANDBOX_DOCKER_PORT_RANGE_MIN=%d", a.PortMin), fmt.Sprintf("OPENSANDBOX_DOCKER_PORT_RANGE_MAX=%d", a.PortMax),
	}
	if a.Engine != "" {
		env = append(env, "DOCKER_HOST="+a.Engine)
	}
	return env
}
