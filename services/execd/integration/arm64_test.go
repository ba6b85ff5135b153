//go:build integration

package integration

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"opensandbox/libs/terminaltest"
)

// TestArm64 runs the daemon as it is built for arm64, as the init process of a container. Elsewhere an emulator does, for the daemon alone: what
// it starts are programs of the machine.
func TestArm64(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "execd")
	if err := build(bin, "arm64"); err != nil {
		t.Fatal(err)
	}
	files, init := map[string]string{"execd": bin, "bin/busybox": "/bin/busybox"}, []string{"/execd"}
	if runtime.GOARCH != "arm64" {
		emulator, err := exec.LookPath("qemu-aarch64-static")
		if err != nil {
			t.Fatal(err)
		}
		files["emulator"], init = emulator, []string{"/emulator", "/execd"}
	}
	image := "execdtest-arm64:" + suffix
	if err := importImage(image, files, links); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", image).Run() })
	name := nameOf(t)
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "-f", name).Run() })
	script := "trap 'exit 7' TERM; while :; do sleep 0.1; done"
	docker(t, append(append([]string{"run", "-d", "--name", name, image}, init...), "--init", "--", "sh", "-c", script)...)
	c := (&container{t: t, name: name}).ready()

	if got := c.sh("echo $PPID; (sleep 0.1 &); echo $((6 * 7))"); got != "1\n42\n" {
		t.Errorf("a command printed %q", got)
	}
	if status := c.upload(t, "/tmp/new/file", strings.NewReader("content")); status != http.StatusOK {
		t.Errorf("upload: %d", status)
	}
	var found []struct{ Path, Owner string }
	if _, body := c.request("GET", "/files/search?path=/tmp&pattern=f*", "", nil); json.Unmarshal([]byte(body), &found) != nil || len(found) != 1 || found[0].Path != "/tmp/new/file" || found[0].Owner != "root" {
		t.Errorf("search: %s", body)
	}
	var made struct {
		ID string `json:"session_id"`
	}
	if _, body := c.request("POST", "/pty", "", map[string]string{}); json.Unmarshal([]byte(body), &made) != nil {
		t.Fatalf("terminal: %s", body)
	}
	screen := terminaltest.Dial(t, c.url+"/pty/"+made.ID+"/ws", nil)
	screen.Says(`{"type":"resize","cols":101,"rows":33}`)
	screen.Types("busybox stty size; exit 5\n")
	screen.Sees("33 101")
	_, _ = screen.End()
	if code := screen.Exit["exit_code"]; code != 5.0 {
		t.Errorf("the terminal ended with %v", screen.Exit)
	}
	docker(t, "stop", name)
	if got := c.wait(); got != "7" {
		t.Errorf("the sandbox ended with %s", got)
	}
}
