package daemon

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outgoing makes a connection and returns its port on this side, which nobody can listen on until the connection is ended from its other side.
func outgoing(t *testing.T) (port string, end func()) {
	t.Helper()
	there, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
	here, err := from.Dial("tcp4", there.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := there.Accept()
	if err != nil {
		t.Fatal(err)
	}
	end = func() {
		other.Close()
		_, _ = io.Copy(io.Discard, here) // Until the end of the connection is here too: the first to end it would keep its port.
		here.Close()
	}
	t.Cleanup(end)
	n := here.LocalAddr().(*net.TCPAddr).Port
	if ln, err := bind(n); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("the port of a connection: got %v, %v", ln, err)
	}
	return strconv.Itoa(n), end
}

func exists(dir, file string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}

// wait polls until something is so. It may be called in any goroutine.
func wait(t *testing.T, until func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !until(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Error("waited in vain")
			return
		}
	}
}

// answers asks an execd on this machine.
func answers(port string) bool {
	return Run([]string{"--health", "--port", port}, nil, io.Discard, io.Discard) == 0
}

// TestPortThatIsTaken runs the whole program on the port of a connection. Not parallel: see TestEntryPointDecides.
func TestPortThatIsTaken(t *testing.T) {
	const marksHook = "touch $DIR/hook"
	for name, tt := range map[string]struct {
		hook, entry string
		// meanwhile is called once the entry point runs, or at once if there is a hook.
		meanwhile func(port string, end func(), dir string)
		code      int
		out       string
	}{
		"it gets free": {"", "until [ -e $DIR/asked ]; do sleep 0.01; done; exit 6", func(port string, end func(), dir string) {
			time.Sleep(5 * portRetry)
			end()
			wait(t, func() bool { return answers(port) })
			_ = os.WriteFile(filepath.Join(dir, "asked"), nil, 0o600)
		}, 6, ""},
		"it gets free before the hook": {marksHook, "[ -e $DIR/hook ] && exit 6", func(_ string, end func(), dir string) {
			time.Sleep(5 * portRetry)
			if exists(dir, "hook") {
				t.Error("the hook has run, and execd does not answer")
			}
			end()
		}, 6, ""},
		"it stays taken, with a hook": {marksHook, "true", func(string, func(), string) {}, 1, " was in use for 2s: "},
		"the entry point ends":        {"", "sleep 0.1; exit 5", func(string, func(), string) {}, 5, ""},
		"the sandbox is stopped": {"", "exec sleep 1000", func(string, func(), string) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
		}, 128 + int(syscall.SIGTERM), ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			port, end := outgoing(t)
			env := append(os.Environ(), "EXECD_ENVS="+filepath.Join(dir, "env"), "HOME="+dir, "DIR="+dir)
			if tt.hook != "" {
				env = append(env, `OPENSANDBOX_LIFECYCLE={"preStart":{"command":["sh","-c","`+tt.hook+`"]}}`)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				wait(t, func() bool { return tt.hook != "" || exists(dir, "running") })
				tt.meanwhile(port, end, dir)
			}()
			var out bytes.Buffer
			code := Run([]string{"--init", "--port", port, "--", "sh", "-c", "touch $DIR/running; " + tt.entry}, env, &out, &out)
			<-done
			if code != tt.code || !strings.Contains(out.String(), tt.out) || tt.out == "" && out.Len() > 0 {
				t.Errorf("got %d %q, want %d and %q", code, out.String(), tt.code, tt.out)
			}
			if tt.code == 1 && (exists(dir, "hook") || exists(dir, "running")) {
				t.Error("the hook or the entry point was run, and execd never answered")
			}
		})
	}
}

// TestPortThatNobodyCanHave: only a port that is in use is worth another try.
func TestPortThatNobodyCanHave(t *testing.T) {
	t.Parallel()
	if err := new(app).listen(1 << 16); err == nil || strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
}
