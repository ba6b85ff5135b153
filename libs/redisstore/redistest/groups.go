package redistest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// MasterName is what the sentinels of a Group call its servers.
const MasterName = "mymaster"

// Group is a master with a replica, watched by three sentinels.
type Group struct {
	Master, Replica *Server
	Sentinels       []*Server
}

// StartReplicated starts a master with one replica that has caught up, without sentinels.
func StartReplicated(t testing.TB, o Options) *Group {
	t.Helper()
	g := &Group{Master: Start(t, o)}
	o.ReplicaOf = g.Master.Addr()
	g.Replica = Start(t, o)
	g.awaitReplica(t)
	return g
}

// StartGroup starts all of a Group. A dead master is replaced after about two seconds.
func StartGroup(t testing.TB, o Options) *Group {
	t.Helper()
	g := StartReplicated(t, o)
	host, port, _ := strings.Cut(g.Master.Addr(), ":")
	for range 3 {
		// The file is the sentinel's own: it writes what it learns into it.
		conf := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 2\nsentinel down-after-milliseconds %[1]s 500\nsentinel failover-timeout %[1]s 5000\n",
			MasterName, host, port)
		path := filepath.Join(t.TempDir(), "sentinel.conf")
		if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		g.Sentinels = append(g.Sentinels, startSentinel(t, path))
	}
	g.awaitSentinels(t)
	return g
}

// startSentinel starts redis-server as a sentinel: the package of Debian has the program under one name only.
func startSentinel(t testing.TB, path string) *Server {
	t.Helper()
	s := &Server{t: t, dir: filepath.Dir(path), port: freePort(t)}
	s.args = []string{path, "--sentinel", "--bind", "127.0.0.1", "--port", fmt.Sprint(s.port), "--dir", s.dir, "--logfile", filepath.Join(s.dir, "log")}
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// SentinelAddrs are the addresses of the sentinels.
func (g *Group) SentinelAddrs() []string {
	var out []string
	for _, s := range g.Sentinels {
		out = append(out, s.Addr())
	}
	return out
}

func (g *Group) awaitReplica(t testing.TB) {
	t.Helper()
	await(t, "the replica has caught up", func() bool {
		info, _ := g.Replica.Do("INFO", "replication").(string)
		master, _ := g.Master.Do("INFO", "replication").(string)
		return strings.Contains(info, "master_link_status:up") && strings.Contains(master, "state=online")
	})
}

// awaitSentinels waits until each sentinel knows the replica and the others: only then can they replace the master.
func (g *Group) awaitSentinels(t testing.TB) {
	t.Helper()
	for _, s := range g.Sentinels {
		await(t, "the sentinels know each other", func() bool {
			c := s.Client()
			defer c.Close() //nolint:errcheck // only read
			info, err := c.Info(context.Background(), "sentinel").Result()
			return err == nil && strings.Contains(info, "slaves=1,sentinels=3")
		})
	}
}

// Cluster is a cluster of three masters.
type Cluster struct{ Servers []*Server }

const clusterSlots = 16384

// StartCluster starts a cluster and waits until every server says that it is whole.
func StartCluster(t testing.TB, o Options) *Cluster {
	t.Helper()
	const masters = 3
	c := &Cluster{}
	o.Args = append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000"}, o.Args...)
	for range masters {
		c.Servers = append(c.Servers, Start(t, o))
	}
	for i, s := range c.Servers {
		s.Do("CLUSTER", "ADDSLOTSRANGE", i*clusterSlots/masters, (i+1)*clusterSlots/masters-1)
		s.Do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
	}
	first, port, _ := strings.Cut(c.Servers[0].Addr(), ":")
	for _, s := range c.Servers[1:] {
		s.Do("CLUSTER", "MEET", first, port)
	}
	for _, s := range c.Servers {
		await(t, "the cluster is whole", func() bool {
			info, _ := s.Do("CLUSTER", "INFO").(string)
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", masters)) &&
				strings.Contains(info, fmt.Sprintf("cluster_size:%d", masters))
		})
	}
	return c
}

// Addrs are the addresses of all servers.
func (c *Cluster) Addrs() []string {
	var out []string
	for _, s := range c.Servers {
		out = append(out, s.Addr())
	}
	return out
}

// await polls until done.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(startWithin); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", startWithin, what)
		}
	}
}
