//go:build integration

package docker

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
)

// planOf returns a plan of a sandbox that runs until it is killed, and removes what becomes of it.
func planOf(t *testing.T, e *Engine) executor.Plan {
	t.Helper()
	p := executor.Plan{Ref: executor.Ref{ID: newID(), Epoch: 1}, CreatedAt: time.Now().UTC(), Image: testImage, Entrypoint: []string{"tail", "-f", "/dev/null"},
		Ports: freePorts(t), Token: secrettest.New("the token of a daemon"),
		Env: map[string]string{"PASSWORD": secrettest.New("a value of the environment")}, Limits: sandbox.Resources{CPU: 500, Memory: 64 << 20}}
	t.Cleanup(func() {
		if err := e.Remove(context.WithoutCancel(t.Context()), p.Ref); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestDescribe(t *testing.T) {
	e := open(t, nil)
	f, err := e.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.Platform != "linux/"+runtime.GOARCH || !slices.Contains(f.Runtimes, "runc") || f.Host != "" {
		t.Errorf("platform %q, runtimes %q, host %q", f.Platform, f.Runtimes, f.Host)
	}
	if !slices.Contains(f.Images, "docker.io/opensandbox/busybox:dev") || slices.ContainsFunc(f.Images, func(s string) bool { return strings.Contains(s, "execd-of") || strings.Contains(s, "<none>") }) {
		t.Errorf("images %q", f.Images)
	}
}

func TestARuntimeAndAPlatformThatAreThere(t *testing.T) {
	e := open(t, nil)
	p := planOf(t, e)
	p.Runtime, p.Platform = "runc", "linux/"+runtime.GOARCH
	for _, err := range []error{e.EnsureImage(t.Context(), executor.Image{Name: p.Image, Platform: p.Platform}, func(string) {}), e.Create(t.Context(), p), e.Start(t.Context(), p)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	in, err := e.Inspect(t.Context(), p.ID)
	if err != nil || in.Phase != executor.Running || in.Image != testImage || in.Limits != p.Limits {
		t.Errorf("%+v, %v", in, err)
	}
}

func TestARuntimeThatIsNotThere(t *testing.T) {
	e := open(t, nil)
	p := planOf(t, e)
	p.Runtime = "no-such-runtime"
	err := e.Create(t.Context(), p)
	if err == nil {
		err = e.Start(t.Context(), p)
	}
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.TextOf(err), "no-such-runtime") {
		t.Errorf("%v (%v); want a refusal that names the runtime", err, fault.KindOf(err))
	}
}

func TestAPlatformThatIsNotThere(t *testing.T) {
	e := open(t, nil)
	p := planOf(t, e)
	p.Platform = "linux/s390x"
	ref := startRegistry(t) + "/tools/one-platform:1"
	push(t, e, ref)
	t.Cleanup(func() {
		_, _ = e.api.ImageRemove(context.WithoutCancel(t.Context()), ref, image.RemoveOptions{}) // there only if the engine took the other platform's
	})
	p.Image = ref
	pulled := false
	err := e.EnsureImage(t.Context(), executor.Image{Name: p.Image, Platform: p.Platform}, func(string) { pulled = true })
	if err == nil {
		err = e.Create(t.Context(), p)
	}
	if !pulled || !fault.Is(err, fault.Invalid) || fault.CodeOf(err) != executor.CodeImage {
		t.Errorf("pulled %v, %v (%v, %s)", pulled, err, fault.KindOf(err), fault.CodeOf(err))
	}
}
