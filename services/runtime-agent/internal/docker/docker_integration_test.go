//go:build integration

package docker

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/volume"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/executortest"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/delivery"
)

// testImage is built by scripts/images.sh.
const testImage = "opensandbox/busybox:dev"

// open returns an engine of an installation of its own, with an execd that is built for the test.
func open(t *testing.T, change func(*Config)) *Engine {
	t.Helper()
	cfg := Config{
		Installation: "test-" + strings.ToLower(rand.Text()[:10]), Node: "n", PublishHost: "127.0.0.1", NoNewPrivileges: true, PidsLimit: 256,
		DropCapabilities: []string{"NET_RAW", "NET_ADMIN", "SYS_ADMIN"}, APITimeout: time.Minute, PullTimeout: time.Minute,
		Daemon: daemon(t), StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	e, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		mine, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", labelInstallation+"="+cfg.Installation))})
		if err != nil {
			t.Error(err)
		}
		for _, c := range mine {
			t.Errorf("left behind: %v", c.Names)
			_ = e.api.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true})
		}
		if err := e.api.VolumeRemove(ctx, e.volume, true); err != nil {
			t.Error(err)
		}
		owned := filters.NewArgs(filters.Arg("label", "dev.opensandbox.execd-of="+cfg.Installation))
		if left, err := e.api.VolumeList(ctx, volume.ListOptions{Filters: owned}); err != nil || len(left.Volumes) > 0 {
			t.Errorf("volumes left behind: %v, %v", left.Volumes, err)
		}
		images, err := e.api.ImageList(ctx, image.ListOptions{Filters: owned})
		if err != nil {
			t.Error(err)
		}
		for _, i := range images {
			_, _ = e.api.ImageRemove(ctx, i.ID, image.RemoveOptions{Force: true})
		}
		e.Close()
	})
	return e
}

// daemon builds execd once for the test binary.
func daemon(t *testing.T) delivery.Source {
	t.Helper()
	path := filepath.Join(os.TempDir(), fmt.Sprintf("execd-for-tests-%d", os.Getpid()))
	if _, err := os.Stat(path); err != nil {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "opensandbox/services/execd/cmd/opensandbox-execd")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build execd: %v\n%s", err, out)
		}
	}
	src, err := delivery.FromPath(path)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.Remove(filepath.Join(os.TempDir(), fmt.Sprintf("execd-for-tests-%d", os.Getpid())))
	os.Exit(code)
}

func newID() sandbox.ID { return sandbox.ID("t-" + strings.ToLower(rand.Text())) }

// freePort returns a port that nothing listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func freePorts(t *testing.T) map[int]int {
	a, b := freePort(t), freePort(t)
	for a == b {
		b = freePort(t)
	}
	return map[int]int{44772: a, 8080: b}
}

func TestExecutor(t *testing.T) {
	e := open(t, nil)
	executortest.TestExecutor(t, func(t *testing.T) executortest.Harness {
		return executortest.Harness{
			Executor: e, Image: testImage, NoImage: missingImage(t),
			Forever: []string{"tail", "-f", "/dev/null"}, Missing: []string{"/no/such/program"},
			Exit:  func(code int) []string { return []string{"sh", "-c", fmt.Sprintf("exit %d", code)} },
			Ports: func() map[int]int { return freePorts(t) },
			TakePort: func(t *testing.T, port int) {
				l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = l.Close() })
			},
			NewID:        newID,
			HasVolume:    func(t *testing.T, name string) bool { return hasVolume(t, e, name) },
			MakeVolume:   func(t *testing.T, name string) { makeVolume(t, e, name) },
			RemoveVolume: func(t *testing.T, name string) { removeVolume(t, e, name) },
			LeaveVolume:  func(t *testing.T, p executor.Plan) { leaveVolume(t, e, p) },
		}
	})
}
