package app

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/mirror"
	"opensandbox/services/runtime-agent/internal/recovery"
)

// Memory is what a node remembers of the store by itself, and Note what it remembers of a sandbox.
type (
	Memory = recovery.Disk
	Note   = recovery.Note
)

// disk is what the state directory has for the recovery of the store.
type disk struct{ dir string }

// knownFile notes how far the store had come.
const knownFile = "store.json"

// mirrorDir is where the mirror is.
func mirrorDir(stateDir string) string { return filepath.Join(stateDir, "mirror") }

// Known implements recovery.Disk.
func (d disk) Known() (sandbox.Mark, error) {
	var m sandbox.Mark
	b, err := os.ReadFile(filepath.Join(d.dir, knownFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	return m, err
}

// Keep implements recovery.Disk.
func (d disk) Keep(m sandbox.Mark) error { return writeJSON(filepath.Join(d.dir, knownFile), m) }

// Notes implements recovery.Disk.
func (d disk) Notes() (map[sandbox.ID]recovery.Note, error) {
	entries, err := mirror.Read(mirrorDir(d.dir))
	out := make(map[sandbox.ID]recovery.Note, len(entries))
	for id, e := range entries {
		out[id] = note(e)
	}
	return out, err
}

func note(e mirror.Entry) recovery.Note {
	return recovery.Note{
		Tenant: e.Tenant, CreatedAt: e.CreatedAt, Spec: e.Spec, Version: e.Version, Epoch: e.Epoch, Ports: e.Ports, Reserved: e.Reserved, Ran: e.Ran,
		Intent: sandbox.Intent{Desired: e.Desired, Reason: e.Reason, Generation: e.Generation, ExpiresAt: e.ExpiresAt, Metadata: e.Metadata},
	}
}
