//go:build chaos

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"opensandbox/libs/installation"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
)

// within waits for a condition; false if it never holds. Who waits says what is wrong.
func within(done func() bool) bool {
	for deadline := time.Now().Add(patience); !done(); time.Sleep(250 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// clear deletes every sandbox that the list shows, also those whose creates were answered to nobody.
func (p *platform) clear(t *testing.T, l *load, v *verdicts) {
	t.Helper()
	left := "no answer"
	ok := within(func() bool {
		p.supervise(t)
		a := p.ask(http.MethodGet, p.apis[0]+"/v1/sandboxes?pageSize=200", nil)
		var list struct{ Items []struct{ ID string } }
		if a.status != http.StatusOK || json.Unmarshal(a.body, &list) != nil {
			return false
		}
		for _, item := range list.Items {
			c := &call{What: "delete", ID: item.ID, Began: time.Now()}
			b := p.ask(http.MethodDelete, p.apis[0]+"/v1/sandboxes/"+item.ID, nil)
			c.Ended, c.Status = time.Now(), b.status
			l.history.add(c)
		}
		left = fmt.Sprint(len(list.Items), " sandboxes")
		return len(list.Items) == 0
	})
	if !ok {
		v.fail("sandboxes", "the list does not become empty: %s", left)
	}
}

// remains looks for what is left after everything was deleted.
func (p *platform) remains(t *testing.T, v *verdicts) {
	t.Helper()
	for _, e := range p.engines {
		p.engineRemains(t, e, v)
	}
	store := p.openStore(t)
	var problems []string
	if !within(func() bool { problems = p.storeProblems(t, store); return len(problems) == 0 }) {
		for _, what := range problems {
			v.fail("keys and ports", "%s", what)
		}
	}
	v.count("keys and ports", 0, "problems of indexes, records and leased ports")
	var files []string
	if !within(func() bool { files = p.files(); return len(files) == 0 }) {
		v.fail("files", "left on nodes: %q", files)
	}
	v.count("files", 0, "files of sandboxes on the nodes")
}

func (p *platform) engineRemains(t *testing.T, e *engine, v *verdicts) {
	var left []string
	if !within(func() bool {
		list, err := p.containers(t.Context(), e)
		left = nil
		for _, c := range list {
			left = append(left, c.Labels["opensandbox.io/id"])
		}
		return err == nil && len(left) == 0
	}) {
		v.fail("containers", "left on %s: %q", e.name, left)
	}
	v.count("containers", 0, "containers left on "+e.name)
	if !within(func() bool {
		list, err := e.docker.VolumeList(t.Context(), volume.ListOptions{Filters: filters.NewArgs(filters.Arg("name", p.installation))})
		left = nil
		for _, x := range list.Volumes {
			if x.Labels["dev.opensandbox.role"] != "execd" { // the daemon, which is kept for the next sandbox
				left = append(left, x.Name)
			}
		}
		return err == nil && len(left) == 0
	}) {
		v.fail("volumes", "left on %s: %q", e.name, left)
	}
	v.count("volumes", 0, "volumes of sandboxes left on "+e.name)
	networks, err := e.docker.NetworkList(t.Context(), network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", "dev.opensandbox.installation="+p.installation))})
	if err != nil || len(networks) > 1 {
		v.fail("networks", "on %s: %d, of which one is shared by all sandboxes; %v", e.name, len(networks), err)
	}
	v.count("networks", len(networks), "networks on "+e.name)
}

func (p *platform) openStore(t *testing.T) *redisstore.Store {
	t.Helper()
	inst, err := installation.Shared(p.installation, p.secret)
	if err != nil {
		t.Fatal(err)
	}
	c, err := redisstore.NewClient(redisstore.ClientConfig{Mode: redisstore.ModeSentinel, Addrs: p.redis.SentinelAddrs(), MasterName: redistest.MasterName, Name: "chaos"})
	if err != nil {
		t.Fatal(err)
	}
	store, err := redisstore.Open(t.Context(), redisstore.Config{
		Client: c, Installation: inst.ID(), Fingerprint: inst.Fingerprint(), Topics: []sandbox.Topic{sandbox.TopicRollCall},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// storeProblems compares the indexes with the records; no record may hold a port, and none be on a node.
func (p *platform) storeProblems(t *testing.T, store *redisstore.Store) []string {
	ctx := context.WithoutCancel(t.Context())
	problems, err := store.Check(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	for i := range p.engines {
		records, err := store.OnNode(ctx, fmt.Sprintf("node-%d", i))
		if err != nil {
			return []string{err.Error()}
		}
		for j := range records {
			problems = append(problems, fmt.Sprintf("%s is still on node-%d with the ports %v", records[j].ID, i, records[j].Placement.Ports))
		}
	}
	return problems
}

// idInName is the id of a sandbox.
var idInName = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// files are those of the agents that are named after a sandbox.
func (p *platform) files() []string {
	var left []string
	for i := range p.engines {
		err := filepath.WalkDir(filepath.Join(p.dir, fmt.Sprintf("state-%d", i)), func(path string, _ os.DirEntry, err error) error {
			if idInName.MatchString(filepath.Base(path)) {
				left = append(left, path)
			}
			return err
		})
		if err != nil {
			left = append(left, err.Error())
		}
	}
	return left
}
