//go:build integration

package integration

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestAbuseNoProcessLeft: sleeping processes take all that the limit leaves, for good, while many clients use files. The daemon cannot start
// anything then, not even a thread of its own, and goes on.
func TestAbuseNoProcessLeft(t *testing.T) {
	a := abuse(t, "--pids-limit", "256")
	a.sh("busybox mkdir /tmp/d; cd /tmp/d; for i in $(busybox seq 1 2000); do : >$i; done; busybox dd if=/dev/zero of=/tmp/file bs=1048576 count=8 2>/dev/null")
	started := 0
	for ; !strings.Contains(a.output("exec sleep 1000", `,"background":true`), "resource temporarily unavailable"); started++ {
		if started == 256 {
			t.Fatal("the limit of processes does not hold")
		}
	}
	routes := []string{"/files/search?path=/tmp&pattern=*1", "/directories/list?path=/tmp/d", "/files/download?path=/tmp/file", "/metrics"}
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if status, body := a.request("GET", routes[i%len(routes)], "", nil); status != http.StatusOK || body == "" {
				t.Errorf("%s: %d", routes[i%len(routes)], status)
			}
			if status := a.upload(t, "/tmp/d/new"+strconv.Itoa(i), zeros(1<<20)); status != http.StatusOK {
				t.Errorf("upload: %d", status)
			}
			if body := a.output("true", ""); !strings.Contains(body, `"error"`) {
				t.Errorf("a command without a process: %s", body)
			}
		})
	}
	all.Wait()
	a.stillThere()
}

// TestAbuseNoMemoryLeft: among hundreds of small processes the daemon is the largest, and yet not the one that the kernel kills.
func TestAbuseNoMemoryLeft(t *testing.T) {
	a := abuse(t, "--memory", "64m", "--memory-swap", "64m")
	for range 3 {
		body := a.output("for i in $(busybox seq 5000); do sleep 1000 & done; sleep 1000", `,"timeout":60000`)
		// It is killed, as a rule; a shell that the kernel refuses a process fails by itself.
		if !strings.Contains(body, `"type":"error"`) || strings.Contains(body, "TimeoutError") {
			t.Fatalf("there was memory enough for the command: %s", body)
		}
	}
	a.stillThere()
}

// stillThere asks a daemon that can start nothing.
func (a *abused) stillThere() {
	a.t.Helper()
	a.pinged()
	if status, body := a.request("GET", "/command/status/none", "", nil); status != http.StatusNotFound {
		a.t.Errorf("afterwards: %d %s", status, body)
	}
}

// output is all that a command is answered with.
func (c *container) output(script, more string) string {
	res, err := c.command(script, more)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}
