package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
)

// stoppedFile holds what was stopped because the node was cut off, until that is reported.
const stoppedFile = "stopped.json"

type stoppedEntry struct {
	ID    sandbox.ID `json:"id"`
	Epoch uint64     `json:"epoch"`
}

// noteStopped writes the list of what was stopped; an empty one removes the file.
func noteStopped(dir string, refs []executor.Ref) error {
	path := filepath.Join(dir, stoppedFile)
	if len(refs) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	entries := make([]stoppedEntry, len(refs))
	for i, r := range refs {
		entries[i] = stoppedEntry{r.ID, r.Epoch}
	}
	return writeJSON(path, entries)
}

// wasStopped reads what noteStopped wrote.
func wasStopped(dir string) ([]executor.Ref, error) {
	b, err := os.ReadFile(filepath.Join(dir, stoppedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var entries []stoppedEntry
	if err == nil {
		err = json.Unmarshal(b, &entries)
	}
	refs := make([]executor.Ref, len(entries))
	for i, e := range entries {
		refs[i] = executor.Ref{ID: e.ID, Epoch: e.Epoch}
	}
	return refs, err
}

// writeJSON writes a file beside and renames it: a reader, or a crash, never meets half of one.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return os.Rename(path+".tmp", path)
}
