package docker

import (
	"bytes"
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/pkg/stdcopy"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// incarnation reports whether the container with the sandbox's name is this incarnation of it.
func (e *Engine) incarnation(ctx context.Context, r executor.Ref) (bool, error) {
	in, err := e.Inspect(ctx, r.ID)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil && in.Epoch == r.Epoch, err
}

// Kill ends all processes with SIGKILL, which reaches frozen ones too.
func (e *Engine) Kill(ctx context.Context, r executor.Ref) error {
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	if ok, err := e.incarnation(ctx, r); !ok {
		return err
	}
	err := e.api.ContainerKill(ctx, containerName(r.ID), "KILL")
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsConflict(err) || strings.Contains(err.Error(), "is not running") {
		return nil
	}
	return classify("kill", err)
}

// removing is how often an engine that is removing already is asked whether it has finished.
const removing = 20 * time.Millisecond

// Remove removes the container with its anonymous volumes, and the named ones that were made for it.
func (e *Engine) Remove(ctx context.Context, r executor.Ref) error {
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	e.unpin(ctx, r)
	claims, there, err := e.removeContainer(ctx, r)
	if err != nil || there && len(claims) == 0 {
		return err
	}
	return e.removeClaims(ctx, r, claims)
}

// removeContainer returns the volumes of the engine that the container used, and whether it was there.
func (e *Engine) removeContainer(ctx context.Context, r executor.Ref) (claims []string, there bool, err error) {
	for {
		c, err := e.api.ContainerInspect(ctx, containerName(r.ID))
		if err != nil {
			return claims, there, ignoreNotFound(classify("inspect", err))
		}
		in, err := e.instance(c)
		if err != nil || in.Epoch != r.Epoch {
			return claims, there, ignoreNotFound(err)
		}
		claims, there = claimsOf(c.Config.Labels), true
		err = e.api.ContainerRemove(ctx, containerName(r.ID), container.RemoveOptions{Force: true, RemoveVolumes: true})
		switch {
		case err == nil, errdefs.IsNotFound(err):
			e.dismiss(r.ID)
			return claims, there, nil
		case errdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress"):
		default:
			return claims, there, classify("remove", err)
		}
		select {
		case <-ctx.Done():
			return claims, there, classify("remove", ctx.Err())
		case <-time.After(removing):
		}
	}
}

func ignoreNotFound(err error) error {
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// maxTail bounds what Tail returns.
const maxTail = 16 << 10

// Tail returns the last lines that the entry point wrote.
func (e *Engine) Tail(ctx context.Context, r executor.Ref, n int) ([]string, error) {
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	if ok, err := e.incarnation(ctx, r); !ok {
		return nil, err
	}
	logs, err := e.api.ContainerLogs(ctx, containerName(r.ID), container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(n)})
	if err != nil {
		return nil, classify("logs", err)
	}
	defer logs.Close()
	var text bytes.Buffer
	// The stream interleaves stdout and stderr in frames; both go to one place. A huge line is cut, which breaks the last frame.
	if _, err := stdcopy.StdCopy(&text, &text, io.LimitReader(logs, 4*maxTail)); err != nil && text.Len() == 0 {
		return nil, classify("logs", err)
	}
	return lastLines(text.String(), n), nil
}

func lastLines(text string, n int) []string {
	text = strings.TrimRight(strings.ToValidUTF8(text, "�"), "\n")
	if len(text) > maxTail {
		text = strings.ToValidUTF8(text[len(text)-maxTail:], "")
	}
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	return lines[max(0, len(lines)-n):]
}

// Watch tells of what happens to our containers.
func (e *Engine) Watch(ctx context.Context, ready func(), fn func(executor.Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	filter := e.filter()
	filter.Add("type", string(events.ContainerEventType))
	for action := range actions {
		filter.Add("event", string(action))
	}
	messages, errs := e.api.Events(ctx, events.ListOptions{Filters: filter})
	// The client reports a refused connection through errs. It says nothing on success, so ask for something: by the time that this
	// answers, the engine has taken the subscription, which it was sent first.
	if _, err := e.api.Ping(ctx); err != nil {
		return classify("ping", err)
	}
	ready()
	for {
		select {
		case m := <-messages:
			if ev, ok := event(m); ok {
				fn(ev)
			}
		case err := <-errs:
			return classify("events", err)
		}
	}
}

// actions are the engine's events that are told, in the words of the port.
var actions = map[events.Action]string{
	events.ActionCreate: executor.ActionCreated, events.ActionStart: executor.ActionStarted, events.ActionDie: executor.ActionEnded,
	events.ActionOOM: executor.ActionOOM, events.ActionPause: executor.ActionPaused, events.ActionUnPause: executor.ActionResumed,
	events.ActionDestroy: executor.ActionRemoved,
}

// event reads a message about one of our containers, whose labels come with it.
func event(m events.Message) (executor.Event, bool) {
	ev := executor.Event{Ref: executor.Ref{ID: sandbox.ID(m.Actor.Attributes[labelID])}, At: time.Unix(0, m.TimeNano).UTC(), Action: actions[m.Action]}
	if ev.ID == "" || ev.Action == "" {
		return ev, false
	}
	ev.Epoch, _ = strconv.ParseUint(m.Actor.Attributes[labelEpoch], 10, 64) // a label that cannot be read: somebody looks anyway
	if code, err := strconv.Atoi(m.Actor.Attributes["exitCode"]); err == nil && ev.Action == executor.ActionEnded {
		ev.ExitCode = &code
	}
	return ev, true
}
