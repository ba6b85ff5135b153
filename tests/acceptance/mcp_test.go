//go:build e2e

package acceptance

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"

	"opensandbox/tests/process"
)

// toolServer is the published MCP server, unmodified, spoken to on its standard input and output.
type toolServer struct {
	t    *testing.T
	in   io.Writer
	out  *bufio.Scanner
	last int
}

// mcp starts the MCP server, until the end of the test, and makes its acquaintance.
func (s *server) mcp(t *testing.T, api string, args ...string) *toolServer {
	t.Helper()
	env := []string{"OPEN_SANDBOX_DOMAIN=" + strings.TrimPrefix(api, "http://"), "OPEN_SANDBOX_API_KEY=" + apiKey, "HOME=" + t.TempDir(), "NO_PROXY=*"}
	in, out := converse(t, "the MCP server", process.Command(env, needEnv(t, "OPENSANDBOX_TEST_MCP"), args...))
	c := &toolServer{t: t, in: in, out: bufio.NewScanner(out)}
	c.out.Buffer(nil, 16<<20)
	hello := c.ask("initialize", m{"protocolVersion": "2025-06-18", "capabilities": m{}, "clientInfo": m{"name": "acceptance", "version": "1"}})
	if info, _ := hello["serverInfo"].(m); info["name"] != "OpenSandbox Sandbox" {
		t.Fatalf("initialize: %v", hello)
	}
	c.send(m{"jsonrpc": "2.0", "method": "notifications/initialized"})
	return c
}

// converse starts a program, and returns what it reads and what it writes. At the end of the test its input ends, and it must end then without a
// failure.
func converse(t *testing.T, name string, cmd *exec.Cmd) (in io.Writer, out io.Reader) {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var trouble strings.Builder
	cmd.Stderr = &trouble
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("%s: %v\n%s", name, err, tail(trouble.String(), 6000))
		}
	})
	return stdin, stdout
}

func (c *toolServer) send(message m) {
	c.t.Helper()
	line, err := json.Marshal(message)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		c.t.Fatal(err)
	}
}

// ask sends a request and returns its result.
func (c *toolServer) ask(method string, params m) m {
	c.t.Helper()
	c.last++
	c.send(m{"jsonrpc": "2.0", "id": c.last, "method": method, "params": params})
	for c.out.Scan() {
		var a struct {
			ID     any
			Result m
			Error  any
		}
		if err := json.Unmarshal(c.out.Bytes(), &a); err != nil {
			c.t.Fatalf("%s: %q: %v", method, c.out.Text(), err)
		}
		if a.ID != float64(c.last) {
			continue // a notification, as of progress
		}
		if a.Error != nil {
			c.t.Fatalf("%s %v: %v", method, params, a.Error)
		}
		return a.Result
	}
	c.t.Fatalf("%s: the MCP server ended: %v", method, c.out.Err())
	return nil
}

// use calls a tool, which must succeed, and returns what it answers, decoded into a value if there is one.
func (c *toolServer) use(into any, tool string, args m) {
	c.t.Helper()
	a := c.ask("tools/call", m{"name": tool, "arguments": args})
	if a["isError"] == true {
		c.t.Fatalf("%s %v: %v", tool, args, a)
	}
	if into == nil {
		return
	}
	text, err := json.Marshal(a["structuredContent"])
	if err != nil {
		c.t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		c.t.Fatalf("%s %v: %v: %v", tool, args, a, err)
	}
}

// fails calls a tool, which must fail. What the daemon or the server says of it goes to the log of the MCP server, which takes seconds to write it.
func (c *toolServer) fails(why, tool string, args m) {
	c.t.Helper()
	a := c.ask("tools/call", m{"name": tool, "arguments": args})
	if text, _ := json.Marshal(a["content"]); a["isError"] != true || !strings.Contains(string(text), why) {
		c.t.Errorf("%s %v: %v, want a failure with %q", tool, args, a, why)
	}
}

// done calls a tool that answers with a status.
func (c *toolServer) done(want, tool string, args m) {
	c.t.Helper()
	var a struct{ Status string }
	if c.use(&a, tool, args); a.Status != want {
		c.t.Errorf("%s %v: %q, want %q", tool, args, a.Status, want)
	}
}
