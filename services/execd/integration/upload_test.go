//go:build integration

package integration

import (
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestKilledUpload kills the daemon in the middle of two uploads to a volume, which outlives it: nothing of them is there.
func TestKilledUpload(t *testing.T) {
	t.Parallel()
	name := "execdtest-" + suffix + "-killedupload"
	t.Cleanup(func() { _ = exec.Command("docker", "volume", "rm", "-f", name).Run() })
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "-f", name).Run() })
	docker(t, "run", "-d", "--name", name, "-v", name+":/data", busyboxImage, "/execd", "--init", "--", "sleep", "100000")
	c := (&container{t: t, name: name}).ready()
	if status := c.upload(t, "/data/file", strings.NewReader("old")); status != http.StatusOK {
		t.Fatalf("a small file: %d", status)
	}
	var uploads sync.WaitGroup
	var bodies []*io.PipeWriter
	for _, path := range []string{"/data/file", "/data/new"} {
		r, w := io.Pipe()
		uploads.Go(func() {
			if status := c.upload(t, path, r); status != 0 {
				t.Errorf("%s: got %d of a daemon that was killed", path, status)
			}
			r.Close()
		})
		uploads.Go(func() { _, _ = io.Copy(w, zeros(1<<20)) }) // There is more to come, but it does not.
		bodies = append(bodies, w)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := exec.Command("docker", "exec", name, "/bin/busybox", "ls", "-l", "/proc/1/fd").Output()
		if err == nil && strings.Count(string(out), "-> /data/") == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the uploads do not begin: %v\n%s", err, out)
		}
	}
	docker(t, "kill", name)
	for _, w := range bodies {
		_ = w.CloseWithError(io.ErrUnexpectedEOF) // The client waits for its body before it tells of the end.
	}
	uploads.Wait()
	if got := docker(t, "run", "--rm", "-v", name+":/data", busyboxImage, "sh", "-c", "ls -a /data; cat /data/file"); got != ".\n..\nfile\nold" {
		t.Errorf("on the volume: %q", got)
	}
}
