//go:build e2e

package acceptance

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// All tools of the published MCP server, by variables and directly, and by options and through the server. No tool but the policy of a create
// is about what a sandbox may reach.
func TestPublishedMCPTools(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	for name, used := range map[string]string{"directly": image, "through the server": debian} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var paths []string
			api := s.recordedTo(func(res *http.Response) {
				mu.Lock()
				defer mu.Unlock()
				paths = append(paths, res.Request.URL.Path)
			})
			proxied := name == "through the server"
			var c *toolServer
			if proxied {
				c = s.mcp(t, "127.0.0.1:1", "--domain", strings.TrimPrefix(api, "http://"), "--use-server-proxy", "--request-timeout-seconds", "60", "--transport", "stdio")
			} else {
				c = s.mcp(t, api)
			}
			c.names()
			id := c.sandbox(used, strings.ReplaceAll(name, " ", "-"))
			c.commands(id)
			c.files(id)
			c.others(id)
			c.done("killed", "sandbox_kill", m{"sandbox_id": id})
			if state := s.state(id); state != "404" {
				t.Errorf("killed by a tool, a sandbox is %s", state)
			}
			one, other := s.create(m{"image": m{"uri": used}}), s.create(m{"image": m{"uri": used}})
			c.registry(one, other)
			if a, b := s.state(one), s.state(other); a != "404" || b != "404" {
				t.Errorf("killed by a tool, sandboxes are %s and %s", a, b)
			}
			mu.Lock()
			defer mu.Unlock()
			if went := slices.Contains(paths, "/v1/sandboxes/"+id+"/proxy/44772/command"); went != proxied {
				t.Errorf("through the server: %v", went)
			}
		})
	}
}

// names holds the tools that there are against those that are tried.
func (c *toolServer) names() {
	c.t.Helper()
	var got []string
	for _, tool := range c.ask("tools/list", m{})["tools"].([]any) {
		got = append(got, tool.(m)["name"].(string))
	}
	slices.Sort(got)
	want := []string{
		"command_interrupt", "command_run", "file_create_directories", "file_delete", "file_delete_directories", "file_move", "file_read",
		"file_replace_contents", "file_search", "file_write", "sandbox_connect", "sandbox_create", "sandbox_get_endpoint", "sandbox_get_info",
		"sandbox_get_metrics", "sandbox_healthcheck", "sandbox_kill", "sandbox_list", "sandbox_renew",
	}
	if !slices.Equal(got, want) {
		c.t.Errorf("tools %q, want %q", got, want)
	}
}

// described is a sandbox as the tools show it.
type described struct {
	ID       string
	Status   struct{ State string }
	Metadata map[string]string
	Expires  string `json:"expires_at"`
}

func (c *toolServer) sandbox(used, flow string) string {
	c.t.Helper()
	var made struct {
		ID   string `json:"sandbox_id"`
		Info described
	}
	c.use(&made, "sandbox_create", m{
		"image": used, "timeout_seconds": 300, "ready_timeout_seconds": 60, "health_check_polling_interval_ms": 50, "env": m{"FROM": "create"},
		"metadata": m{"flow": flow}, "resource": m{"cpu": "500m", "memory": "128Mi"}, "extensions": m{"opensandbox.extensions.x": "y"},
		"entrypoint": []string{"tail", "-f", "/dev/null"},
	})
	if made.ID == "" || made.Info.ID != made.ID || made.Info.Status.State != "Running" || made.Info.Metadata["flow"] != flow {
		c.t.Fatalf("sandbox_create: %+v", made)
	}
	var info described
	c.use(&info, "sandbox_get_info", m{"sandbox_id": made.ID})
	var renewed struct {
		Expires string `json:"expires_at"`
	}
	c.use(&renewed, "sandbox_renew", m{"sandbox_id": made.ID, "timeout_seconds": 3600})
	if info.Expires == "" || renewed.Expires <= info.Expires {
		c.t.Errorf("renewed from %q to %q", info.Expires, renewed.Expires)
	}
	var listed struct {
		Infos []described `json:"sandbox_infos"`
	}
	c.use(&listed, "sandbox_list", m{"filter": m{"states": []string{"Running"}, "metadata": m{"flow": flow}, "page": 1, "page_size": 10}})
	if len(listed.Infos) != 1 || listed.Infos[0].ID != made.ID {
		c.t.Errorf("sandbox_list: %+v", listed)
	}
	c.fails("auth_username and auth_password", "sandbox_create", m{"image": used, "auth_username": "without a password"})
	return made.ID
}

// execution is a command as the tools show it.
type execution struct {
	ID    string
	Exit  *int `json:"exit_code"`
	Error *struct{ Name, Value string }
	Logs  struct{ Stdout, Stderr []struct{ Text string } }
	// Complete is there if the stream had that event.
	Complete *m
}

func (c *toolServer) commands(id string) {
	c.t.Helper()
	var run execution
	c.use(&run, "command_run", m{"sandbox_id": id, "command": "echo $FROM | tr a-z A-Z; echo err >&2"})
	if run.ID == "" || run.Exit == nil || *run.Exit != 0 || run.Complete == nil || run.Logs.Stdout[0].Text != "CREATE\n" || run.Logs.Stderr[0].Text != "err\n" {
		c.t.Errorf("command_run: %+v", run)
	}
	run = execution{}
	c.use(&run, "command_run", m{"sandbox_id": id, "command": "pwd; exit 3", "working_directory": "/tmp"})
	if run.Exit == nil || *run.Exit != 3 || run.Error == nil || run.Error.Name != "CommandExecError" || run.Logs.Stdout[0].Text != "/tmp\n" {
		c.t.Errorf("command_run of what fails: %+v", run)
	}
	run = execution{}
	c.use(&run, "command_run", m{"sandbox_id": id, "command": "echo $$ >/tmp/pid; exec sleep 3600", "background": true})
	if run.ID == "" || run.Exit != nil || run.Complete == nil {
		c.t.Fatalf("command_run in the background: %+v", run)
	}
	alive := func() bool {
		var probe execution
		c.use(&probe, "command_run", m{"sandbox_id": id, "command": "kill -0 $(cat /tmp/pid)"})
		return *probe.Exit == 0
	}
	waits := daemon{t: c.t}
	waits.until("the command in the background runs", alive)
	c.done("interrupted", "command_interrupt", m{"sandbox_id": id, "execution_id": run.ID})
	waits.until("the interrupted command has ended", func() bool { return !alive() })
}

func (c *toolServer) files(id string) {
	c.t.Helper()
	of := func(more m) m {
		more["sandbox_id"] = id
		return more
	}
	reads := func(want string, more m) {
		c.t.Helper()
		var got struct{ Path, Content string }
		if c.use(&got, "file_read", of(more)); got.Content != want || got.Path != more["path"] {
			c.t.Errorf("file_read %v: %+v, want %q", more, got, want)
		}
	}
	c.done("created", "file_create_directories", of(m{"entries": []m{{"path": "/tmp/mcp/d", "mode": 700}, {"path": "/tmp/mcp/e", "owner": "nobody", "group": "nogroup"}}}))
	c.done("written", "file_write", of(m{"path": "/tmp/mcp/d/a b.txt", "content": "hello ü\n"}))
	reads("hello ü\n", m{"path": "/tmp/mcp/d/a b.txt"})
	reads("ell", m{"path": "/tmp/mcp/d/a b.txt", "range_header": "bytes=1-3"})
	c.done("written", "file_write", of(m{"path": "/tmp/mcp/d/latin", "content": "ü", "encoding": "latin-1", "mode": 640, "owner": "nobody", "group": "nogroup"}))
	reads("ü", m{"path": "/tmp/mcp/d/latin", "encoding": "latin-1"})
	var found struct {
		Result []struct {
			Path, Owner, Group string
			Type               string
			Mode, Size         int
		}
	}
	c.use(&found, "file_search", of(m{"path": "/tmp/mcp", "pattern": "l*n"}))
	if len(found.Result) != 1 || found.Result[0].Path != "/tmp/mcp/d/latin" || found.Result[0].Mode != 640 || found.Result[0].Size != 1 || found.Result[0].Owner != "nobody" {
		c.t.Errorf("file_search: %+v", found)
	}
	c.use(&found, "file_search", of(m{"path": "/tmp/mcp", "pattern": "nothing*"}))
	if len(found.Result) != 0 {
		c.t.Errorf("file_search without a match: %+v", found)
	}
	var replaced struct {
		Result []struct {
			Path  string
			Count int `json:"replaced_count"`
		}
	}
	c.use(&replaced, "file_replace_contents", of(m{"entries": []m{{"path": "/tmp/mcp/d/a b.txt", "old_content": "l", "new_content": "L"}}}))
	if len(replaced.Result) != 1 || replaced.Result[0].Path != "/tmp/mcp/d/a b.txt" || replaced.Result[0].Count != 2 {
		c.t.Errorf("file_replace_contents: %+v", replaced)
	}
	c.done("moved", "file_move", of(m{"entries": []m{{"source": "/tmp/mcp/d/a b.txt", "destination": "/tmp/mcp/f/a"}, {"source": "/tmp/mcp/e", "destination": "/tmp/mcp/g"}}}))
	reads("heLLo ü\n", m{"path": "/tmp/mcp/f/a"})
	c.done("deleted", "file_delete", of(m{"paths": []string{"/tmp/mcp/f/a", "/tmp/mcp/d/latin"}}))
	c.fails("", "file_read", of(m{"path": "/tmp/mcp/f/a"}))
	c.done("deleted", "file_delete_directories", of(m{"paths": []string{"/tmp/mcp/d", "/tmp/mcp/f", "/tmp/mcp"}}))
}

func (c *toolServer) others(id string) {
	c.t.Helper()
	var health struct{ Healthy bool }
	if c.use(&health, "sandbox_healthcheck", m{"sandbox_id": id}); !health.Healthy {
		c.t.Error("the sandbox is not healthy")
	}
	var metrics struct {
		Count float64 `json:"cpu_count"`
		Total float64 `json:"memory_total_in_mib"`
	}
	if c.use(&metrics, "sandbox_get_metrics", m{"sandbox_id": id}); metrics.Count <= 0 || metrics.Total <= 0 {
		c.t.Errorf("sandbox_get_metrics: %+v", metrics)
	}
	var endpoint struct{ Endpoint string }
	if c.use(&endpoint, "sandbox_get_endpoint", m{"sandbox_id": id, "port": 8080}); endpoint.Endpoint == "" {
		c.t.Error("no endpoint of port 8080")
	}
}

// registry tries what the tools do with sandboxes that they have not made.
func (c *toolServer) registry(one, other string) {
	c.t.Helper()
	c.fails("local registry", "command_run", m{"sandbox_id": one, "command": "true"})
	var run execution
	c.use(&run, "command_run", m{"sandbox_id": one, "command": "echo connected", "connect_if_missing": true})
	if len(run.Logs.Stdout) != 1 || run.Logs.Stdout[0].Text != "connected\n" {
		c.t.Errorf("a command in a sandbox that was not known: %+v", run)
	}
	c.use(nil, "file_read", m{"sandbox_id": one, "path": "/etc/passwd"})
	var connected struct {
		ID   string `json:"sandbox_id"`
		Info described
	}
	c.use(&connected, "sandbox_connect", m{"sandbox_id": one, "connect_timeout_seconds": 60, "health_check_polling_interval_ms": 50})
	if connected.ID != one || connected.Info.Status.State != "Running" {
		c.t.Errorf("sandbox_connect: %+v", connected)
	}
	var info described
	if c.use(&info, "sandbox_get_info", m{"sandbox_id": other}); info.ID != other {
		c.t.Errorf("sandbox_get_info: %+v", info)
	}
	c.use(nil, "sandbox_renew", m{"sandbox_id": other, "timeout_seconds": 1800})
	for _, id := range []string{one, other} {
		c.done("killed", "sandbox_kill", m{"sandbox_id": id})
	}
	c.fails("", "sandbox_get_info", m{"sandbox_id": other})
}
