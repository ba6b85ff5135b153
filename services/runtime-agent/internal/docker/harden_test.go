package docker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

func TestSeccompProfiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const profile = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}`
	for name, c := range map[string]struct{ given, want, fails string }{
		"a file":      {file("good", "{\n \"defaultAction\": \"SCMP_ACT_ALLOW\",\n \"syscalls\": []\n}\n"), profile, ""},
		"text":        {profile, profile, ""},
		"unconfined":  {"unconfined", "unconfined", ""},
		"builtin":     {"builtin", "builtin", ""},
		"no file":     {filepath.Join(dir, "none"), "", "no such file"},
		"no JSON":     {file("text", "SCMP_ACT_ALLOW"), "", "not a profile in JSON"},
		"a list":      {file("list", "[]"), "", "not a profile in JSON"},
		"no profile":  {file("other", `{"a":1}`), "", "no defaultAction"},
		"broken text": {"{", "", "not a profile in JSON"},
	} {
		got, err := seccomp(c.given)
		if got != c.want || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: %q, %v; want %q, %q", name, got, err, c.want, c.fails)
		}
	}
}

func TestSecurityOptions(t *testing.T) {
	t.Parallel()
	both := []string{"name=apparmor", "name=seccomp,profile=default"}
	for name, c := range map[string]struct {
		cfg     Config
		offered []string
		version string
		want    []string
		fails   string
	}{
		"nothing":                  {Config{}, both, "1.41", nil, ""},
		"all":                      {Config{NoNewPrivileges: true, AppArmorProfile: "p", SeccompProfile: "unconfined"}, both, "1.41", []string{"no-new-privileges=true", "apparmor=p", "seccomp=unconfined"}, ""},
		"an engine without either": {Config{AppArmorProfile: "p", SeccompProfile: "unconfined"}, nil, "1.41", []string{"apparmor=p", "seccomp=unconfined"}, ""},
		"no seccomp to be had":     {Config{SeccompProfile: `{"defaultAction":"SCMP_ACT_ERRNO"}`}, []string{"name=apparmor"}, "1.41", nil, "the engine has no seccomp"},
		"builtin, an older engine": {Config{SeccompProfile: "builtin"}, both, "1.41", nil, ""},
		"builtin":                  {Config{SeccompProfile: "builtin"}, both, "1.43", []string{"seccomp=builtin"}, ""},
		"a file that is not there": {Config{SeccompProfile: "/no/such"}, both, "1.41", nil, "docker.seccomp_profile"},
	} {
		api, err := client.NewClientWithOpts(client.WithVersion(c.version))
		if err != nil {
			t.Fatal(err)
		}
		c.cfg.Log = slog.New(slog.DiscardHandler)
		e := &Engine{cfg: c.cfg, api: api}
		got, err := e.securityOptions(t.Context(), system.Info{SecurityOptions: c.offered})
		if !slices.Equal(got, c.want) || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: %q, %v; want %q, %q", name, got, err, c.want, c.fails)
		}
	}
}

// TestCausesInAnEnginesText has texts of engines and runtimes, and what becomes of them.
func TestCausesInAnEnginesText(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct {
		kind fault.Kind
		part string
	}{
		"failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: unable to apply apparmor profile: apparmor failed to apply profile: write /proc/self/attr/apparmor/exec: no such file or directory: unknown": {fault.Internal, "docker.apparmor_profile"},
		"could not select device driver \"\" with capabilities: [[gpu]]":                                                  {fault.Invalid, `has no GPUs to give; it answered: could not select device driver "" with`},
		"mkdir /var/lib/docker/overlay2/abc: no space left on device":                                                     {fault.Internal, "a disk of the node is full"},
		"invalid mount config for type \"bind\": bind source path does not exist: /var/lib/opensandbox/agent/pins/id.1/0": {fault.Internal, "share the engine's view"},
		"invalid mount config for type \"bind\": bind source path does not exist: /srv/cache":                             {fault.Internal, "docker.sandbox_binds"},
		"network sandboxes not found":                                                                                                  {fault.Internal, "docker.network_mode"},
		"Decoding seccomp profile failed: invalid character":                                                                           {fault.Internal, "docker.seccomp_profile"},
		"OCI runtime create failed: exec: \"network x\": executable file not found in $PATH: unknown":                                  {fault.Invalid, "cannot be started from this image"},
		"OCI runtime create failed: exec: \"no space\": stat no space: no such file or directory: unknown":                             {fault.Invalid, "cannot be started from this image"},
		"driver failed programming external connectivity: Bind for 0.0.0.0:40001 failed: port is already allocated":                    {fault.Unavailable, "a port of the node"},
		"failed to create task for container: OCI runtime start failed: unable to retrieve OCI runtime error: exec: \"runsc\": exited": {fault.Internal, "isolation runtime"},
	} {
		err := startFault(errors.New("Error response from daemon: "+text), map[int]int{8080: 40001})
		if !fault.Is(err, c.kind) || !strings.Contains(fault.TextOf(err), c.part) {
			t.Errorf("%s: %v (%v), want %v and %q", text, err, fault.KindOf(err), c.kind, c.part)
		}
	}
	if err := startFault(executor.ErrPortTaken(1, 2), nil); fault.CodeOf(err) != executor.CodePortTaken {
		t.Errorf("an error that is classified: %v", err)
	}
}

// TestEngineThatIsStopped has the answers of an engine that was stopped during a create. Neither the image nor a volume is to blame.
func TestEngineThatIsStopped(t *testing.T) {
	t.Parallel()
	noSocket := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.ENOENT)}
	attach := attachError(fmt.Errorf("cannot connect to the Docker daemon. Is 'docker daemon' running on this host?: %w", noSocket))
	for name, err := range map[string]error{
		"attach":     startFault(attach, nil),
		"its volume": claimFailed(sandbox.Volume{Name: "v"}, errors.New("Error response from daemon: get v: database not open")),
	} {
		if !fault.Is(err, fault.Unavailable) || fault.TextOf(err) != "the container engine does not answer" {
			t.Errorf("%s: %v (%v), want that the engine is away", name, err, fault.KindOf(err))
		}
	}
	named := startFault(errors.New(`OCI runtime create failed: exec: "database not open": executable file not found in $PATH: unknown`), nil)
	if !fault.Is(named, fault.Invalid) {
		t.Errorf("a program with such a name: %v (%v), want %v", named, fault.KindOf(named), fault.Invalid)
	}
}
