package redistest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	AwaitReplica(t, g.Master, g.Replica)
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
		if o.User != "" {
			conf += fmt.Sprintf("sentinel auth-user %s %s\nsentinel auth-pass %s %q\n", MasterName, o.User, MasterName, o.Password)
		}
		path := filepath.Join(t.TempDir(), "sentinel.conf")
		if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		g.Sentinels = append(g.Sentinels, startSentinel(t, path, o.TLS))
	}
	g.awaitSentinels(t)
	return g
}

// startSentinel starts redis-server as a sentinel: the package of Debian has the program under one name only. Sentinels have no users.
func startSentinel(t testing.TB, path string, certs *Certificates) *Server {
	t.Helper()
	s := &Server{t: t, dir: filepath.Dir(path), port: freePort(t), opts: Options{TLS: certs}}
	s.args = []string{path, "--sentinel", "--bind", "127.0.0.1", "--dir", s.dir, "--logfile", filepath.Join(s.dir, "log")}
	s.args = append(s.args, s.portArgs()...)
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

// AwaitOffset waits until the replica has all that its master has written so far.
func AwaitOffset(t testing.TB, master, replica *Server) {
	t.Helper()
	offset := func(s *Server, field string) int64 {
		info := s.replication()
		_, rest, _ := strings.Cut(info, field+":")
		var n int64
		if _, err := fmt.Sscan(rest, &n); err != nil {
			t.Fatalf("%s of %q: %v", field, info, err)
		}
		return n
	}
	want := offset(master, "master_repl_offset")
	await(t, "the replica has caught up", func() bool { return offset(replica, "slave_repl_offset") >= want })
}

// AwaitMaster waits until all sentinels name a server as the master. Until then some of them may still undo the change.
func (g *Group) AwaitMaster(t testing.TB, master *Server) {
	t.Helper()
	for _, s := range g.Sentinels {
		await(t, "the sentinels agree on the new master", func() bool {
			addr, _ := s.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName).([]any)
			return len(addr) == 2 && fmt.Sprintf("%v:%v", addr[0], addr[1]) == master.Addr()
		})
	}
}

// AwaitReplica waits until the replica of a pair has caught up with its master.
func AwaitReplica(t testing.TB, master, replica *Server) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("log of the replica:\n%s\nlog of the master:\n%s", replica.Log(), master.Log())
		}
	}()
	await(t, "the replica has caught up", func() bool {
		return strings.Contains(replica.replication(), "master_link_status:up") && strings.Contains(master.replication(), "state=online")
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
type Cluster struct {
	Servers []*Server
	// Replicas are those of the servers, in their order; none after StartCluster.
	Replicas []*Server
}

const (
	clusterSlots   = 16384
	clusterMasters = 3
)

// StartCluster starts a cluster and waits until every server says that it is whole.
func StartCluster(t testing.TB, o Options) *Cluster {
	t.Helper()
	return startCluster(t, o, 0)
}

// StartReplicatedCluster starts a cluster in which each master has one replica that has caught up. A dead master is replaced after about
// three seconds.
func StartReplicatedCluster(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := startCluster(t, o, clusterMasters)
	for i, r := range c.Replicas {
		id, _ := c.Servers[i].Do("CLUSTER", "MYID").(string)
		await(t, "the replica knows its master", func() bool {
			nodes, _ := r.Do("CLUSTER", "NODES").(string)
			return strings.Contains(nodes, id)
		})
		r.Do("CLUSTER", "REPLICATE", id)
	}
	for i, r := range c.Replicas {
		AwaitReplica(t, c.Servers[i], r)
	}
	for _, s := range append(slices.Clone(c.Servers), c.Replicas...) {
		await(t, "everybody knows the replicas", func() bool {
			nodes, _ := s.Do("CLUSTER", "NODES").(string)
			return strings.Count(nodes, "slave ") == clusterMasters && !strings.Contains(nodes, "handshake")
		})
	}
	return c
}

func startCluster(t testing.TB, o Options, replicas int) *Cluster {
	t.Helper()
	c := &Cluster{}
	o.Args = append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000"}, o.Args...)
	if o.TLS != nil {
		o.Args = append([]string{"--tls-cluster", "yes"}, o.Args...)
	}
	for range clusterMasters {
		c.Servers = append(c.Servers, Start(t, o))
	}
	for range replicas {
		c.Replicas = append(c.Replicas, Start(t, o))
	}
	for i, s := range c.Servers {
		s.Do("CLUSTER", "ADDSLOTSRANGE", i*clusterSlots/clusterMasters, (i+1)*clusterSlots/clusterMasters-1)
		s.Do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
	}
	all := append(slices.Clone(c.Servers), c.Replicas...)
	first, port, _ := strings.Cut(all[0].Addr(), ":")
	for _, s := range all[1:] {
		s.Do("CLUSTER", "MEET", first, port)
	}
	for _, s := range all {
		await(t, "the cluster is whole", func() bool {
			info, _ := s.Do("CLUSTER", "INFO").(string)
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", len(all))) &&
				strings.Contains(info, fmt.Sprintf("cluster_size:%d", clusterMasters))
		})
	}
	return c
}

// Owner returns the master that has a key, and the replica of its pair that follows it now. Both run.
func (c *Cluster) Owner(t testing.TB, key string) (master, replica *Server) {
	t.Helper()
	slot, _ := c.Servers[0].Do("CLUSTER", "KEYSLOT", key).(int64)
	i := 0
	for int(slot) >= (i+1)*clusterSlots/clusterMasters {
		i++
	}
	master, replica = c.Servers[i], c.Replicas[i]
	if IsMaster(replica) {
		master, replica = replica, master
	}
	return master, replica
}

// IsMaster reports whether a server takes itself for a master.
func IsMaster(s *Server) bool { return strings.Contains(s.replication(), "role:master") }

// replication is what a server says of its place among others; empty if it does not answer, such as when a sentinel changes that place and
// breaks all connections.
func (s *Server) replication() string {
	c := s.Client()
	defer c.Close() //nolint:errcheck // only read
	info, err := c.Info(context.Background(), "replication").Result()
	if err != nil {
		return ""
	}
	return info
}

// Addrs are the addresses of all servers.
func (c *Cluster) Addrs() []string {
	var out []string
	for _, s := range append(slices.Clone(c.Servers), c.Replicas...) {
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
