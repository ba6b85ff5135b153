package docker

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/image"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"opensandbox/libs/executor"
)

const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestReferencesAreFullNames(t *testing.T) {
	t.Parallel()
	got := references([]image.Summary{
		{RepoTags: []string{"busybox:latest", "tools/sh:1"}, RepoDigests: []string{"busybox" + digest}},
		{RepoTags: []string{"127.0.0.1:5000/a/b:2"}, RepoDigests: []string{"<none>@<none>"}},
		{RepoTags: []string{"<none>:<none>"}},
		{RepoTags: []string{"busybox:latest"}},
		{RepoTags: []string{"opensandbox/execd-delivery:x"}, Labels: map[string]string{labelRole: "execd"}},
		{},
	})
	want := []string{"127.0.0.1:5000/a/b:2", "docker.io/library/busybox:latest", "docker.io/library/busybox" + digest, "docker.io/tools/sh:1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPlatform(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]*ocispec.Platform{
		"": nil, "linux/arm64": {OS: "linux", Architecture: "arm64"}, "linux/arm/v7": {OS: "linux", Architecture: "arm", Variant: "v7"}, "linux": {OS: "linux"},
	} {
		if diff := cmp.Diff(want, platform(s)); diff != "" {
			t.Errorf("%q: %s", s, diff)
		}
	}
	for s, want := range map[string]bool{"": true, "linux/amd64": true, "linux/arm64": false, "linux": false} {
		if isFor("linux", "amd64", s) != want {
			t.Errorf("an image for linux/amd64 is for %q: %v", s, !want)
		}
	}
}

func TestEventsOfTheEngine(t *testing.T) {
	t.Parallel()
	code, at := 137, time.Unix(1_700_000_000, 5).UTC()
	message := func(action events.Action, attributes map[string]string) events.Message {
		return events.Message{Action: action, TimeNano: at.UnixNano(), Actor: events.Actor{Attributes: attributes}}
	}
	ours := map[string]string{labelID: "a", labelEpoch: "3", "exitCode": "137"}
	for name, c := range map[string]struct {
		m    events.Message
		want executor.Event
		ok   bool
	}{
		"an end":            {message(events.ActionDie, ours), executor.Event{Ref: executor.Ref{ID: "a", Epoch: 3}, At: at, Action: executor.ActionEnded, ExitCode: &code}, true},
		"a start":           {message(events.ActionStart, ours), executor.Event{Ref: executor.Ref{ID: "a", Epoch: 3}, At: at, Action: executor.ActionStarted}, true},
		"an unreadable end": {message(events.ActionDie, map[string]string{labelID: "a", labelEpoch: "x"}), executor.Event{Ref: executor.Ref{ID: "a"}, At: at, Action: executor.ActionEnded}, true},
		"not a sandbox":     {m: message(events.ActionDie, nil)},
		"another action":    {m: message(events.ActionRename, ours)},
	} {
		got, ok := event(c.m)
		if ok != c.ok {
			t.Errorf("%s: told %v", name, ok)
		}
		if diff := cmp.Diff(c.want, got); ok && diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func FuzzFullName(f *testing.F) {
	for _, s := range []string{"busybox", "a/b:c", "<none>:<none>", "h:1/x" + digest, ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		full, ok := fullName(name)
		if !ok {
			return
		}
		if again, ok := fullName(full); !ok || again != full {
			t.Errorf("%q becomes %q, and that %q", name, full, again)
		}
	})
}
