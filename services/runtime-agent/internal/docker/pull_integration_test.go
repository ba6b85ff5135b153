//go:build integration

package docker

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
)

// startRegistry starts a real registry on loopback, which engines accept without TLS, and returns its address.
func startRegistry(t *testing.T) string { return startRegistryWith(t, "") }

// startRegistryWith starts a registry with more configuration.
func startRegistryWith(t *testing.T, extra string) string {
	t.Helper()
	address, dir := fmt.Sprintf("127.0.0.1:%d", freePort(t)), t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n%s", dir, address, extra)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the registry (Debian package docker-registry): %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		res, err := http.Get("http://" + address + "/v2/")
		if err == nil {
			_ = res.Body.Close()
			return address
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry never answered: %v", err)
		}
	}
}

// missingImage names an image that a real registry denies having.
func missingImage(t *testing.T) string { return startRegistry(t) + "/no/such:image" }

func push(t *testing.T, e *Engine, ref string) {
	t.Helper()
	pushAs(t, e, ref, "e30=")
}

// pushAs uploads the image of the tests, and takes its new name away from the engine.
func pushAs(t *testing.T, e *Engine, ref, auth string) {
	t.Helper()
	ctx := t.Context()
	if err := e.api.ImageTag(ctx, testImage, ref); err != nil {
		t.Fatal(err)
	}
	out, err := e.api.ImagePush(ctx, ref, image.PushOptions{RegistryAuth: auth})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	text, err := io.ReadAll(out)
	if err != nil || strings.Contains(string(text), `"error"`) {
		t.Fatalf("push: %v\n%s", err, text)
	}
	drop(t, e, ref)
}

func drop(t *testing.T, e *Engine, ref string) {
	t.Helper()
	if _, err := e.api.ImageRemove(context.WithoutCancel(t.Context()), ref, image.RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

func TestPullIsShared(t *testing.T) {
	e := open(t, nil)
	ref := startRegistry(t) + "/tools/box:1"
	push(t, e, ref)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var told []string
	for range 5 {
		wg.Go(func() {
			err := e.EnsureImage(t.Context(), executor.Image{Name: ref}, func(s string) { mu.Lock(); told = append(told, s); mu.Unlock() })
			if err != nil {
				t.Errorf("EnsureImage = %v", err)
			}
		})
	}
	wg.Wait()
	defer drop(t, e, ref)
	if len(told) == 0 || !strings.Contains(told[0], ref) {
		t.Errorf("progress %q does not name the image", told)
	}
	if len(e.pulls.byImage) != 0 {
		t.Errorf("%d pulls are left", len(e.pulls.byImage))
	}
}

func TestPullOfWhatIsNotThere(t *testing.T) {
	e := open(t, nil)
	for ref, want := range map[string]fault.Kind{
		startRegistry(t) + "/no/such:tag": fault.Invalid,
		"127.0.0.1:1/registry/is:away":    fault.Internal,
		"Not A Reference":                 fault.Invalid,
	} {
		err := e.EnsureImage(t.Context(), executor.Image{Name: ref}, func(string) {})
		if !fault.Is(err, want) || fault.CodeOf(err) != executor.CodeImage {
			t.Errorf("%q: %v (%v, %q); want %v with code %s", ref, err, fault.KindOf(err), fault.CodeOf(err), want, executor.CodeImage)
		}
	}
}

func TestAbandonedPullStops(t *testing.T) {
	e := open(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := e.EnsureImage(ctx, executor.Image{Name: startRegistry(t) + "/tools/other:1"}, func(string) {})
	if err == nil {
		t.Error("an abandoned pull succeeded")
	}
	if len(e.pulls.byImage) != 0 {
		t.Errorf("%d pulls are left", len(e.pulls.byImage))
	}
}
