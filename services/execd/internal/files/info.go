// Package files does the file and directory work of clients. Paths are not confined: the sandbox itself is the boundary.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/environ"
)

// Wire codes of OpenSandbox 1.1.1.
const (
	codeNotFound = "FILE_NOT_FOUND"
	codeRuntime  = "RUNTIME_ERROR"
	codeBody     = "INVALID_REQUEST_BODY"
)

// Service works on the file system with execd's own identity. It may be used concurrently.
type Service struct {
	lookup environ.Lookup
	home   string
	spool  []string
}

// New returns a Service. env expands variables in paths; spool lists directories for upload parts that arrive before their
// description.
func New(env, spool []string) *Service {
	lookup := environ.In(env)
	return &Service{lookup: lookup, home: environ.Home(lookup), spool: spool}
}

// Info describes a file. All fields but Type are required by clients.
type Info struct {
	Path       string    `json:"path"`
	Type       string    `json:"type"`
	Size       int64     `json:"size"`
	ModifiedAt time.Time `json:"modified_at"`
	// CreatedAt is the inode's change time, as in OpenSandbox 1.1.1.
	CreatedAt time.Time `json:"created_at"`
	Owner     string    `json:"owner"`
	Group     string    `json:"group"`
	// Mode is the octal digits of the nine permission bits, written as a decimal number: 755.
	Mode int `json:"mode"`
}

// Path expands variables and ~ and makes the result absolute.
func (s *Service) Path(path string) (string, error) {
	if path == "" {
		// It would mean the working directory, which nobody wants to delete by accident.
		return "", fault.New(fault.Invalid, "invalid request, validation error path must not be empty").WithCode(codeBody)
	}
	p, err := environ.ExpandPath(path, s.lookup, s.home)
	if err != nil {
		return "", broken(err)
	}
	if p, err = filepath.Abs(p); err != nil {
		return "", broken(err)
	}
	return p, nil
}

// broken is an operating system error that clients see as a 500.
func broken(err error) error {
	return fault.New(fault.Internal, "error accessing file: "+err.Error()).WithCode(codeRuntime).Because(err)
}

// missing turns "does not exist" into a 404 and everything else into a 500.
func missing(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fault.Newf(fault.NotFound, "file not found: %s", path).WithCode(codeNotFound)
	}
	return broken(err)
}

// names translates numeric owners, each only once: a listing asks for the same few again and again.
type names struct{ users, groups map[uint32]string }

func newNames() *names { return &names{users: map[uint32]string{}, groups: map[uint32]string{}} }

func (n *names) user(id uint32) string {
	name, ok := n.users[id]
	if !ok {
		name = strconv.FormatUint(uint64(id), 10)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		n.users[id] = name
	}
	return name
}

func (n *names) group(id uint32) string {
	name, ok := n.groups[id]
	if !ok {
		name = strconv.FormatUint(uint64(id), 10)
		if g, err := user.LookupGroupId(name); err == nil {
			name = g.Name
		}
		n.groups[id] = name
	}
	return name
}

func (n *names) describe(path string, fi fs.FileInfo) Info {
	info := Info{
		Path: path, Type: kind(fi.Mode()), Size: fi.Size(), ModifiedAt: expressible(fi.ModTime()), CreatedAt: expressible(fi.ModTime()),
		Mode: digits(fi.Mode().Perm()),
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		info.CreatedAt = expressible(time.Unix(int64(st.Ctim.Sec), int64(st.Ctim.Nsec)))
		info.Owner, info.Group = n.user(st.Uid), n.group(st.Gid)
	}
	return info
}

// expressible moves a time into the years that RFC 3339 has: a file may bear any, and must not spoil the list that it is in.
func expressible(t time.Time) time.Time {
	switch year := t.Year(); {
	case year < 0:
		return time.Date(0, time.January, 1, 0, 0, 0, 0, t.Location())
	case year > 9999:
		return time.Date(9999, time.December, 31, 23, 59, 59, 0, t.Location())
	default:
		return t
	}
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "file"
	case m.IsDir():
		return "directory"
	case m&fs.ModeSymlink != 0:
		return "symlink"
	default:
		return "other"
	}
}

// digits writes permission bits the way the API does: 0o755 becomes 755.
func digits(m fs.FileMode) int {
	return int(m>>6&7)*100 + int(m>>3&7)*10 + int(m&7)
}

// Info describes the paths without following symlinks. Keys are the paths as they were sent; one missing path fails the call.
func (s *Service) Info(paths []string) (map[string]Info, error) {
	out := make(map[string]Info, len(paths))
	n := newNames()
	for _, sent := range paths {
		path, err := s.Path(sent)
		if err != nil {
			return nil, err
		}
		fi, err := os.Lstat(path)
		if err != nil {
			return nil, missing(sent, err)
		}
		out[sent] = n.describe(path, fi)
	}
	return out, nil
}

// Permission is a mode and an owner to set. Zero values leave things as they are.
type Permission struct {
	// Mode is octal digits written as a decimal number.
	Mode  int    `json:"mode"`
	Owner string `json:"owner"`
	Group string `json:"group"`
}

// resolved is a Permission with numbers in place of names; -1 means unchanged.
type resolved struct {
	mode     fs.FileMode
	hasMode  bool
	uid, gid int
}

// resolve looks names up before anything is touched.
func (p Permission) resolve() (resolved, error) {
	r := resolved{uid: -1, gid: -1, hasMode: p.Mode != 0}
	if r.hasMode {
		bits, err := strconv.ParseUint(strconv.Itoa(p.Mode), 8, 32)
		if err != nil {
			return r, broken(fmt.Errorf("mode %d is not made of octal digits", p.Mode))
		}
		r.mode = fs.FileMode(bits) & fs.ModePerm
	}
	if p.Owner != "" {
		u, err := user.Lookup(p.Owner)
		if err != nil {
			return r, broken(unknown(err, user.UnknownUserError(p.Owner)))
		}
		if r.uid, err = strconv.Atoi(u.Uid); err != nil {
			return r, broken(err)
		}
	}
	if p.Group != "" {
		g, err := user.LookupGroup(p.Group)
		if err != nil {
			return r, broken(unknown(err, user.UnknownGroupError(p.Group)))
		}
		if r.gid, err = strconv.Atoi(g.Gid); err != nil {
			return r, broken(err)
		}
	}
	return r, nil
}

// unknown is the error of a look-up by name: nobody is the error when nobody has the name. In an image without a list of accounts nobody has one.
func unknown(err, nobody error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nobody
	}
	return err
}

// apply sets the owner first: a change of owner may clear mode bits.
func (r resolved) apply(path string) error {
	if r.uid >= 0 || r.gid >= 0 {
		if err := os.Chown(path, r.uid, r.gid); err != nil {
			return broken(err)
		}
	}
	if r.hasMode {
		if err := os.Chmod(path, r.mode); err != nil {
			return broken(err)
		}
	}
	return nil
}
