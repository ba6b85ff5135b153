//go:build e2e

package acceptance

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"opensandbox/libs/redisstore"
)

// openStore connects to the Redis of the split services, until the end of the test.
func (s *server) openStore(t *testing.T) *redisstore.Store {
	t.Helper()
	u, err := url.Parse(s.split.RedisURL)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	return s.split.OpenStore(t, redisstore.ClientConfig{Mode: redisstore.ModeSingle, Addrs: []string{u.Host}, Password: password, Name: "acceptance"})
}

// agrees waits until every index of the store agrees with its records, and what the engines publish with the ports that are leased. Renewals
// and work are written by parts that have just come back, so that it is right a moment later.
func (s *server) agrees() {
	s.t.Helper()
	store := s.openStore(s.t)
	var problems []string
	s.eventually("indexes, records and published ports agree", func() bool {
		found, err := store.Check(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		problems = append(found, s.portProblems(store)...)
		if len(problems) > 0 {
			s.t.Logf("not yet: %q", problems)
		}
		return len(problems) == 0
	})
	for _, engine := range s.engines() {
		// One network is shared by all sandboxes of an engine.
		if networks := strings.Fields(docker(s.t, append(engine, "network", "ls", "-q", "--filter", "label=dev.opensandbox.role=network")...)); len(networks) > 1 {
			s.t.Errorf("networks on engine %q: %q", engine, networks)
		}
	}
}

// portProblems compares the ports that the store has leased with those that the containers publish.
func (s *server) portProblems(store *redisstore.Store) []string {
	var problems []string
	for i, engine := range s.engines() {
		node := fmt.Sprintf("node-%d", i)
		records, err := store.OnNode(context.WithoutCancel(s.t.Context()), node)
		if err != nil {
			s.t.Fatal(err)
		}
		var leased, published []string
		for j := range records {
			for _, port := range records[j].Placement.Ports {
				leased = append(leased, strconv.Itoa(port))
			}
		}
		for _, id := range strings.Fields(docker(s.t, append(engine, "ps", "-aq", "--filter", "label=dev.opensandbox.installation="+s.installation())...)) {
			ports := docker(s.t, append(engine, "inspect", "-f", "{{range .HostConfig.PortBindings}}{{range .}}{{.HostPort}} {{end}}{{end}}", id)...)
			published = append(published, strings.Fields(ports)...)
		}
		slices.Sort(leased)
		slices.Sort(published)
		if !slices.Equal(leased, published) {
			problems = append(problems, fmt.Sprintf("%s: the ports %q are leased, and %q are published", node, leased, published))
		}
	}
	return problems
}

// noFiles fails if a file of an agent is named after a sandbox that is gone.
func (s *server) noFiles(gone []string) {
	s.t.Helper()
	for i := range 2 {
		err := filepath.WalkDir(filepath.Join(s.dir, fmt.Sprintf("state-%d", i)), func(path string, _ os.DirEntry, err error) error {
			if slices.ContainsFunc(gone, func(id string) bool { return strings.Contains(filepath.Base(path), id) }) {
				s.t.Errorf("file of a sandbox that is gone: %s", path)
			}
			return err
		})
		if err != nil {
			s.t.Error(err)
		}
	}
}
