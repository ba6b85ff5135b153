package terminal

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// device is a pseudo terminal: our end, and the one that becomes the terminal of a process.
type device struct{ ours, theirs *os.File }

// openDevice makes a pseudo terminal. Our end does not block, so that a read ends when the file is closed; their end does, as programs expect.
func openDevice() (device, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return device{}, fmt.Errorf("no pseudo terminal: /dev/ptmx: %w", err)
	}
	ours := os.NewFile(uintptr(fd), "/dev/ptmx")
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		ours.Close()
		return device{}, fmt.Errorf("no pseudo terminal: %w", err)
	}
	name := "/dev/pts/" + strconv.Itoa(number)
	peer, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		ours.Close()
		return device{}, fmt.Errorf("no pseudo terminal: %s: %w", name, err)
	}
	return device{ours, os.NewFile(uintptr(peer), name)}, nil
}

// resize tells the terminal its size, and thereby the processes that it has.
func resize(f *os.File, cols, rows uint16) error {
	return control(f, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
}

// foreground returns the process group that the terminal's keys signal; 0 when there is none.
func foreground(f *os.File) int {
	group := 0
	err := control(f, func(fd int) (err error) {
		group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	if err != nil {
		return 0
	}
	return group
}

// control runs an ioctl without making the file a blocking one, which Fd would do.
func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// killSession kills every process of a kernel session: a shell with job control gives each job a group of its own, so that the group of the shell
// is not enough. What has left the session by setsid goes on. proc is where the kernel shows processes.
func killSession(proc string, session int) {
	for range 10 { // A process may be born while we look.
		found := false
		entries, err := os.ReadDir(proc)
		if err != nil {
			return
		}
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil {
				continue
			}
			stat, err := os.ReadFile(filepath.Join(proc, e.Name(), "stat"))
			if err == nil && inSession(string(stat), session) {
				found = syscall.Kill(pid, syscall.SIGKILL) == nil || found
			}
		}
		if !found {
			return
		}
	}
}

// inSession reads /proc/<pid>/stat (proc(5)): after the name in parentheses, which may hold anything, come state, parent, group and session.
func inSession(stat string, session int) bool {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	return len(fields) > 3 && fields[0] != "Z" && fields[0] != "X" && fields[3] == strconv.Itoa(session)
}
