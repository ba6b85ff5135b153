// Package seccomp makes the kernel refuse a system call to this process and all that it starts.
package seccomp

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where the kernel's struct seccomp_data has what a filter looks at (linux/seccomp.h).
const (
	offsetNumber = 0
	offsetArch   = 4
)

// auditArch names the system calls of the processor that this program was built for (linux/audit.h).
var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// RefuseClone3 makes clone3 fail with ENOSYS in all threads of this process and in all processes that they start, as on kernels that do not know
// it: C libraries then use clone. That helps where the engine's own filter refuses it with EPERM, which they take for the last word; of two
// filters that refuse a call, the kernel lets the later one choose the error. No process that inherits the filter can gain privileges any more, by sudo or
// otherwise.
func RefuseClone3() error {
	arch, ok := auditArch[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("no filter of system calls for %s", runtime.GOARCH)
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetArch},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: arch, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE3, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(syscall.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	// The calling thread needs the first; the second gives both to all threads.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	thread, _, errno := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	switch {
	case errno != 0:
		return fmt.Errorf("install a filter of system calls: %w", errno)
	case thread != 0: // seccomp(2): the thread that could not take it.
		return fmt.Errorf("install a filter of system calls: thread %d has another one", thread)
	}
	return nil
}
