package seccomp

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// roleVariable makes the test binary a process that asks for clone3, with or without the filter: a filter cannot be taken away again.
const roleVariable = "SECCOMPTEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case "filter":
		filtered()
	case "plain":
		fmt.Println("child:", clone3())
	}
}

// filtered prints what clone3 says before the filter, after it in a thread that was there before, and in a child.
func filtered() {
	ask, answer := make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread()
		answer <- nil
		<-ask
		answer <- clone3()
	}()
	<-answer
	fmt.Println("before:", clone3())
	if err := RefuseClone3(); err != nil {
		fmt.Println(err)
		return
	}
	close(ask)
	fmt.Println("after:", <-answer)
	child := exec.Command("/proc/self/exe")
	child.Env = []string{roleVariable + "=plain"}
	out, err := child.Output()
	fmt.Print(string(out))
	if err != nil {
		fmt.Println(err)
	}
}

// clone3 asks for something impossible, so that nothing is cloned where the call exists: clone3(2) answers EINVAL to arguments of no size.
func clone3() error {
	_, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, 0, 0, 0)
	return errno
}

func TestRefuseClone3(t *testing.T) {
	t.Parallel()
	if err := clone3(); err != syscall.EINVAL {
		t.Fatalf("this kernel, or its filter, answers clone3 with %v: nothing can be seen here", err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{roleVariable + "=filter"}
	out, err := cmd.CombinedOutput()
	want := []string{"before: invalid argument", "after: function not implemented", "child: function not implemented"}
	if got := strings.Split(strings.TrimSpace(string(out)), "\n"); err != nil || strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
