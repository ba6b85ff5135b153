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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"opensandbox/libs/redisstore"
	"opensandbox/libs/redisstore/redistest"
)

// within waits for a condition; false if it does not hold in time. Who waits says what is wrong.
func within(long time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(long); !done(); time.Sleep(250 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// clear deletes every sandbox that the list shows, also those whose creates were answered to nobody.
func (p *platform) clear(t *testing.T, l *load, long time.Duration, v *verdicts) {
	t.Helper()
	left := "no answer"
	ok := within(long, func() bool {
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

// leftover is something that should be gone, and the check that looks for it.
type leftover struct{ check, what string }

// remains looks for what is left after everything was deleted, until nothing is.
func (p *platform) remains(t *testing.T, long time.Duration, v *verdicts) {
	t.Helper()
	store := p.OpenStore(t, redisstore.ClientConfig{Mode: redisstore.ModeSentinel, Addrs: p.redis.SentinelAddrs(), MasterName: redistest.MasterName, Name: "chaos"})
	var left []leftover
	within(long, func() bool {
		left = slices.Concat(p.storeProblems(t, store), p.files())
		for _, e := range p.engines {
			left = append(left, p.engineRemains(t.Context(), e)...)
		}
		return len(left) == 0
	})
	for _, check := range []string{"containers", "volumes", "networks", "keys and ports", "files"} {
		n := 0
		for _, l := range left {
			if l.check == check {
				n++
				v.fail(check, "%s", l.what)
			}
		}
		v.count(check, n, map[string]string{
			"containers": "of sandboxes left on the engines", "volumes": "of sandboxes left on the engines",
			"networks":       "left on the engines beside the one that all sandboxes of an engine may share",
			"keys and ports": "problems of keys, indexes, records and leased ports on Redis", "files": "of sandboxes left on the nodes",
		}[check])
	}
}

// engineRemains are the containers and volumes of sandboxes on an engine, and its networks.
func (p *platform) engineRemains(ctx context.Context, e *engine) []leftover {
	list, err := p.containers(ctx, e)
	if err != nil {
		return []leftover{{"containers", fmt.Sprintf("%s does not answer: %v", e.name, err)}}
	}
	var left []leftover
	for _, c := range list {
		left = append(left, leftover{"containers", fmt.Sprintf("%s on %s (%s)", c.Labels["opensandbox.io/id"], e.name, c.State)})
	}
	volumes, err := e.docker.VolumeList(ctx, volume.ListOptions{})
	if err != nil {
		return append(left, leftover{"volumes", fmt.Sprintf("%s does not answer: %v", e.name, err)})
	}
	for _, x := range volumes.Volumes {
		// The daemon is kept for the next sandbox.
		if strings.Contains(x.Name, p.Installation) && x.Labels["dev.opensandbox.role"] != "execd" {
			left = append(left, leftover{"volumes", x.Name + " on " + e.name})
		}
	}
	networks, err := e.docker.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return append(left, leftover{"networks", fmt.Sprintf("%s does not answer: %v", e.name, err)})
	}
	for _, n := range networks {
		own := n.Name == "bridge" || n.Name == "host" || n.Name == "none" // what every engine has
		if !own && n.Labels["dev.opensandbox.role"] != "network" {
			left = append(left, leftover{"networks", n.Name + " on " + e.name})
		}
	}
	return left
}

// tidy removes what a run has left on the engines, so that the next one does not meet it.
func (p *platform) tidy() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, e := range p.engines {
		list, _ := p.containers(ctx, e)
		for _, c := range list {
			_ = e.docker.ContainerRemove(ctx, c.ID, removeByForce) // the next run says what is left of it
		}
		for _, l := range p.engineRemains(ctx, e) {
			name, _, _ := strings.Cut(l.what, " on ")
			switch l.check {
			case "volumes":
				_ = e.docker.VolumeRemove(ctx, name, true)
			case "networks":
				_ = e.docker.NetworkRemove(ctx, name)
			}
		}
	}
}

// storeProblems compares the indexes with the records; no record may hold a port, none be on a node, and only records bear the name of a sandbox.
func (p *platform) storeProblems(t *testing.T, store *redisstore.Store) []leftover {
	ctx := context.WithoutCancel(t.Context())
	problems, err := store.Check(ctx)
	if err != nil {
		problems = append(problems, err.Error())
	}
	for i := range p.engines {
		records, err := store.OnNode(ctx, fmt.Sprintf("node-%d", i))
		if err != nil {
			problems = append(problems, err.Error())
		}
		for j := range records {
			problems = append(problems, fmt.Sprintf("%s is still on node-%d with the ports %v", records[j].ID, i, records[j].Placement.Ports))
		}
	}
	names, err := p.keysOfSandboxes(ctx)
	if err != nil {
		problems = append(problems, err.Error())
	}
	for _, name := range names {
		if !strings.Contains(name, "}:record:") {
			problems = append(problems, "the key "+name+" should not be there")
		}
	}
	var left []leftover
	for _, what := range problems {
		left = append(left, leftover{"keys and ports", what})
	}
	return left
}

// keysOfSandboxes are the names of all keys on Redis that have the id of a sandbox in them.
func (p *platform) keysOfSandboxes(ctx context.Context) ([]string, error) {
	server := p.redis.Master
	if !redistest.IsMaster(server) {
		server = p.redis.Replica
	}
	c := server.Client()
	defer c.Close() //nolint:errcheck // only read
	var names []string
	keys := c.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		if idInName.MatchString(keys.Val()) {
			names = append(names, keys.Val())
		}
	}
	return names, keys.Err()
}

// idInName is the id of a sandbox.
var idInName = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// files are those of the agents that are named after a sandbox.
func (p *platform) files() []leftover {
	var left []leftover
	for i := range p.engines {
		err := filepath.WalkDir(filepath.Join(p.dir, fmt.Sprintf("state-%d", i)), func(path string, _ os.DirEntry, err error) error {
			if idInName.MatchString(filepath.Base(path)) {
				left = append(left, leftover{"files", path})
			}
			return err
		})
		if err != nil {
			left = append(left, leftover{"files", err.Error()})
		}
	}
	return left
}
