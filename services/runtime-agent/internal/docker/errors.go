package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
)

// classify gives an error of the engine's client its class. Errors that the engine answered keep their text only where it is about what
// the client of ours asked for.
func classify(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case isAway(err):
		return away(fmt.Errorf("%s: %w", what, err))
	case causeOf(err) != nil:
		return causeOf(err).Because(fmt.Errorf("%s: %w", what, err))
	case errdefs.IsNotFound(err):
		return fault.New(fault.NotFound, "the container engine has no such thing").Because(fmt.Errorf("%s: %w", what, err))
	case errdefs.IsConflict(err):
		return fault.New(fault.Conflict, "the container engine refused because of the present state").Because(fmt.Errorf("%s: %w", what, err))
	case errdefs.IsInvalidArgument(err):
		return fault.New(fault.Invalid, "the container engine refused the request: "+reason(err)).Because(fmt.Errorf("%s: %w", what, err))
	}
	return fault.New(fault.Internal, "the container engine failed").WithCode(executor.CodeStart).Because(fmt.Errorf("%s: %w", what, err))
}

// closing is how an engine answers, in lower case, that is being stopped and has closed what it needs.
var closing = regexp.MustCompile(`: database not open$`)

// isAway reports whether an engine does not answer, or is about to do so no more. Not every call of the client says so by the class of its error.
func isAway(err error) bool {
	var netErr net.Error
	return client.IsErrConnectionFailed(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &netErr) || closing.MatchString(strings.ToLower(err.Error()))
}

// causes are failures that engines describe in their own words, in lower case, and about which somebody can do something: the operator, or
// who asked for it.
var causes = []struct {
	text *regexp.Regexp
	is   *fault.Error
}{
	{regexp.MustCompile(`no space left on device|disk quota exceeded`), internal("a disk of the node is full")},
	{regexp.MustCompile(`could not select device driver .*gpu`), fault.New(fault.Invalid, "resourceLimits.gpu: the engine of the node has no GPUs to give")},
	{regexp.MustCompile(`apparmor profile|apparmor failed`), internal("the AppArmor profile of docker.apparmor_profile is not loaded on the node, or cannot be used there")},
	{regexp.MustCompile(`seccomp profile`), internal("the engine of the node does not take the profile of docker.seccomp_profile")},
	{regexp.MustCompile(`bind source path does not exist: \S*/` + pinDir + `/`),
		internal("the engine of the node does not see what its agent mounts, so there can be no host volumes, nor parts of others: the agent must share the engine's view of the file system")},
	{regexp.MustCompile(`bind source path does not exist`), internal("a path of docker.sandbox_binds does not exist on the node")},
	{regexp.MustCompile(`network [a-z0-9_.-]+ not found`), internal("the network of docker.network_mode does not exist on the node")},
}

func internal(text string) *fault.Error {
	return fault.New(fault.Internal, text).WithCode(executor.CodeStart)
}

// causeOf finds a known failure in an engine's text; nil if there is none. Who asked for what an engine does not have is told its answer too.
func causeOf(err error) *fault.Error {
	text := strings.ToLower(err.Error())
	for _, c := range causes {
		switch {
		case !c.text.MatchString(text):
		case fault.Is(c.is, fault.Invalid):
			return fault.New(fault.Invalid, fault.TextOf(c.is)+"; it answered: "+reason(err)).WithCode(fault.CodeOf(c.is))
		default:
			return c.is
		}
	}
	return nil
}

// reason shortens an engine's text to what helps a client.
func reason(err error) string {
	text := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	text = strings.TrimPrefix(text, "OCI runtime create failed: ")
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}

// portTexts are how engines say that a port cannot be bound, in lower case, as OpenSandbox 1.1.1 recognises them.
var portTexts = []string{"port is already allocated", "ports are not available", "address already in use"}

func isPortTaken(text string) bool {
	text = strings.ToLower(text)
	for _, t := range portTexts {
		if strings.Contains(text, t) {
			return true
		}
	}
	return strings.Contains(text, "bind:") && (strings.Contains(text, "forbidden") || strings.Contains(text, "permission denied"))
}

// portInText finds addresses such as 0.0.0.0:40001 in an engine's text.
var portInText = regexp.MustCompile(`:(\d{2,5})\b`)

// takenPort finds which of the leased ports an engine complains about. Text that names none gives the first.
func takenPort(text string, ports map[int]int) (container, host int) {
	leased := make(map[int]int, len(ports))
	for c, h := range ports {
		leased[h] = c
		if container == 0 || c < container {
			container, host = c, h
		}
	}
	for _, m := range portInText.FindAllStringSubmatch(text, -1) {
		if n, err := strconv.Atoi(m[1]); err == nil && leased[n] != 0 {
			return leased[n], n
		}
	}
	return container, host
}

// startTexts are how runtimes say that the first process cannot be run: always a fault of what was asked for, since the daemon is ours.
var startTexts = []string{"executable file not found", "no such file or directory", "permission denied", "exec format error", "not a directory"}

func startFault(err error, ports map[int]int) error {
	if err == nil || fault.Is(err, fault.Unavailable) {
		return err
	}
	if isAway(err) {
		return classify("start", err) // its text may name a file that is not there, such as a socket
	}
	text := err.Error()
	if isPortTaken(text) {
		c, h := takenPort(text, ports)
		return executor.ErrPortTaken(c, h)
	}
	if c := causeOf(err); c != nil {
		return c.Because(err)
	}
	if errdefs.IsNotFound(err) && !strings.Contains(text, "OCI runtime") {
		return classify("start", err)
	}
	if strings.Contains(text, "unable to retrieve OCI runtime error") {
		// The engine lists the runtime, but its program did not run: the sandbox and its image are not to blame.
		return fault.New(fault.Internal, "the isolation runtime of the sandbox does not work on its node").WithCode(executor.CodeStart).Because(err)
	}
	for _, t := range startTexts {
		if strings.Contains(strings.ToLower(text), t) {
			return fault.New(fault.Invalid, "the sandbox cannot be started from this image: "+reason(err)).Because(err)
		}
	}
	return classify("start", err)
}
