package hostpath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Pins holds what was opened at places that only this process can change: below a file system of its own, which goes away with all that is
// mounted in it. Safe for concurrent use. It needs Linux 5.12 and the right to mount.
type Pins struct {
	dir string

	mu    sync.Mutex
	ready bool
	// swept says that nothing of an earlier process is left.
	swept bool
	held  map[string][]string
}

// NewPins returns Pins below a directory that nobody else may use. It touches nothing before the first pin or sweep.
func NewPins(dir string) *Pins { return &Pins{dir: dir, held: map[string][]string{}} }

// Pin mounts what f is, with all that is mounted below, and returns where. owner is a file name; all of an owner is released together.
func (p *Pins) Pin(owner string, f *os.File, readOnly bool) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.prepare(); err != nil {
		return "", err
	}
	target := filepath.Join(p.dir, owner, strconv.Itoa(len(p.held[owner])))
	if err := makeTarget(target, int(f.Fd())); err != nil {
		return "", fmt.Errorf("pin: %w", err)
	}
	p.held[owner] = append(p.held[owner], target)
	if err := mountAt(target, int(f.Fd()), readOnly); err != nil {
		return "", fmt.Errorf("pin: %w", err)
	}
	return target, nil
}

// Holds reports whether something is held for an owner.
func (p *Pins) Holds(owner string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held[owner]) > 0
}

// Release lets go of everything of an owner. What others have mounted of it stays with them.
func (p *Pins) Release(owner string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failed []error
	for _, target := range p.held[owner] {
		if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: not mounted
			failed = append(failed, fmt.Errorf("release %s: %w", target, err))
			continue
		}
		failed = append(failed, os.Remove(target))
	}
	if len(p.held[owner]) > 0 {
		failed = append(failed, os.Remove(filepath.Join(p.dir, owner)))
	}
	delete(p.held, owner)
	return errors.Join(failed...)
}

// Sweep takes away what an earlier process has left that was killed, so that a file system of somebody is not in use for ever. Only who holds
// the directory may call it. Once it has succeeded, or something is pinned, it does nothing.
func (p *Pins) Sweep() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.swept || p.ready {
		return nil
	}
	if _, err := os.Lstat(p.dir); err == nil {
		if err := detach(p.dir); err != nil && !errors.Is(err, unix.EPERM) { // who may not mount has left nothing
			return err
		}
	}
	p.swept = true
	return nil
}

// Close lets go of everything.
func (p *Pins) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ready {
		return nil
	}
	p.ready = false
	clear(p.held)
	return detach(p.dir)
}

// prepare takes away what an earlier process may have left, and mounts a file system for the pins.
func (p *Pins) prepare() error {
	if p.ready {
		return nil
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return fmt.Errorf("pins: %w", err)
	}
	if err := detach(p.dir); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", p.dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size=1m"); err != nil {
		return fmt.Errorf("mount a file system for pins at %s: %w", p.dir, err)
	}
	p.ready = true
	return nil
}

// maxStacked bounds how many file systems may lie one upon the other at a directory.
const maxStacked = 64

// detach unmounts everything at a directory.
func detach(dir string) error {
	for range maxStacked {
		err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) { // nothing is mounted there
			return nil
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
	return fmt.Errorf("unmount %s: there is always something more", dir)
}

// makeTarget makes what a descriptor can be mounted on: an empty directory, or an empty file.
func makeTarget(target string, fd int) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	if modeOf(fd) == unix.S_IFDIR {
		return os.Mkdir(target, 0o700)
	}
	return os.WriteFile(target, nil, 0o600)
}

// mountAt mounts a copy of the tree of mounts that begins at a descriptor. The copy is made private before it is anywhere: else the end of
// its mounts would be the end of the originals, too.
func mountAt(target string, fd int, readOnly bool) error {
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if readOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	return nil
}
