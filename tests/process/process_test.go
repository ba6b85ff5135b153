package process

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestLogOfAProgramGoesOn(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	for _, word := range []string{"first", "second"} {
		p, err := Start(Command([]string{"WORD=" + word}, "sh", "-c", "echo $WORD; echo $WORD >&2; exit 3"), log)
		if err != nil {
			t.Fatal(err)
		}
		<-p.Ended()
		if p.Runs() || p.ExitCode() != 3 {
			t.Errorf("%s: runs %v, exit code %d; want 3", word, p.Runs(), p.ExitCode())
		}
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Fields(string(text)), []string{"first", "first", "second", "second"}; !slices.Equal(got, want) {
		t.Errorf("the log has %q, want %q", got, want)
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	p, err := Start(Command(nil, "sleep", "1000"), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	if !p.Runs() || syscall.Kill(p.PID(), 0) != nil {
		t.Error("it does not run after its start")
	}
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Error(err)
	}
	p.Kill()
	p.Kill()
	if p.Runs() || p.ExitCode() != -1 {
		t.Errorf("after the kill: runs %v, exit code %d", p.Runs(), p.ExitCode())
	}
}

func TestStartOfNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Start(Command(nil, filepath.Join(dir, "none")), filepath.Join(dir, "log")); err == nil {
		t.Error("a program that does not exist was started")
	}
	if _, err := Start(Command(nil, "true"), filepath.Join(dir, "none", "log")); err == nil {
		t.Error("a program was started without its log")
	}
}

func TestCommandHidesWhatOnlyTestsRead(t *testing.T) {
	t.Setenv("OPENSANDBOX_TEST_X", "1")
	t.Setenv("OTHER_X", "1")
	env := Command([]string{"OTHER_X=2"}, "true").Env
	if slices.Contains(env, "OPENSANDBOX_TEST_X=1") {
		t.Error("a variable of the tests is given to a program")
	}
	if kept, over := slices.Index(env, "OTHER_X=1"), slices.Index(env, "OTHER_X=2"); kept < 0 || over < kept {
		t.Errorf("a variable that is given lies at %d, the one of this process at %d; the later one counts", over, kept)
	}
}

func TestFreePortGivesEachOnce(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	_, most := SandboxPorts()
	for range 50 {
		port := FreePort(t)
		if seen[port] || port <= most || port >= 32_768 {
			t.Errorf("port %d: given before %v; want one above %d, where sandboxes end, and below 32768", port, seen[port], most)
		}
		seen[port] = true
	}
}
