//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// pingVariable makes the test binary a pinger of the daemon at that address, and nothing else.
const pingVariable = "EXECDTEST_PING"

// pingEvery is the pause between two pings.
const pingEvery = 20 * time.Millisecond

// pinger asks a daemon for /ping all the time, from a process of its own: the test's own goroutines may be hundreds, and what it
// measured would be how long it waits for itself.
type pinger struct {
	cmd *exec.Cmd
	in  io.Closer
	out io.Reader
}

func startPinger(t *testing.T, url string) *pinger {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), pingVariable+"="+url)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &pinger{cmd: cmd, in: in, out: out}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // Does nothing after stop.
		_ = cmd.Wait()
	})
	return p
}

// stop returns how long the answers took, in ascending order.
func (p *pinger) stop(t *testing.T) []time.Duration {
	t.Helper()
	_ = p.in.Close()
	var took []time.Duration
	if err := json.NewDecoder(p.out).Decode(&took); err != nil {
		t.Errorf("the pinger: %v", err)
	}
	_ = p.cmd.Wait()
	slices.Sort(took)
	return took
}

// prefer gives this process the processor before the others of the host, as far as it may: what counts is how long the daemon takes, not how
// long the one who asks has to wait for a processor that the test, the daemon and a hundred commands share with him.
func prefer() {
	threads, _ := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		if id, err := strconv.Atoi(thread.Name()); err == nil {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, -20)
		}
	}
}

// ping is the whole pinger. It ends with its standard input, and the process that holds the other end.
func ping(url string) int {
	prefer()
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	took := []time.Duration{}
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		began := time.Now()
		res, err := client.Get(url + "/ping")
		if err == nil {
			res.Body.Close()
		}
		if err != nil || res.StatusCode != http.StatusOK {
			took = append(took, time.Hour) // Shows in the report.
		} else {
			took = append(took, time.Since(began))
		}
		select {
		case <-tick.C:
		case <-ended:
			if err := json.NewEncoder(os.Stdout).Encode(took); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			return 0
		}
	}
}
