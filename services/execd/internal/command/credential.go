package command

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"opensandbox/services/execd/internal/environ"
)

// credential returns the identity to switch to, nil when it is the daemon's own: a switch needs CAP_SETGID even for equal ids.
// A user of the image brings its primary and supplementary groups; for an unknown number the group is 0 unless given, and there
// are no supplementary groups, as in OpenSandbox 1.1.1.
func credential(uid, gid *uint32) (*syscall.Credential, error) {
	if uid == nil {
		return nil, nil
	}
	ownUID, ownGID := uint32(os.Geteuid()), uint32(os.Getegid())
	c := &syscall.Credential{Uid: *uid}
	account, err := environ.AccountOf(int(*uid))
	known := err == nil
	if known {
		c.Gid = uint32(account.GID)
		for _, g := range account.Groups {
			c.Groups = append(c.Groups, uint32(g))
		}
	}
	if gid != nil {
		c.Gid = *gid
	}
	if *uid != ownUID {
		return c, nil
	}
	if gid != nil && *gid == ownGID || gid == nil && (!known || c.Gid == ownGID && sameGroups(c.Groups, ownGID)) {
		return nil, nil
	}
	return c, nil
}

// sameGroups compares with the daemon's groups. The primary group may or may not be listed among them.
func sameGroups(want []uint32, primary uint32) bool {
	own, err := os.Getgroups()
	if err != nil {
		return false
	}
	set := func(add func(func(uint32))) []uint32 {
		s := []uint32{primary}
		add(func(g uint32) { s = append(s, g) })
		slices.Sort(s)
		return slices.Compact(s)
	}
	a := set(func(put func(uint32)) {
		for _, g := range want {
			put(g)
		}
	})
	b := set(func(put func(uint32)) {
		for _, g := range own {
			put(uint32(g))
		}
	})
	return slices.Equal(a, b)
}

// explain adds what is missing to the kernel's bare answer.
func explain(err error, p *plan) error {
	c := p.sys.Credential
	if c != nil && errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("cannot run as uid %d gid %d: %w: the sandbox needs the capabilities SETUID and SETGID", c.Uid, c.Gid, err)
	}
	return fmt.Errorf("%s: %w", p.file, err)
}
