// Package mirror keeps a copy of what each sandbox of a node shall be on the node's own disk, so that deadlines and metadata survive
// the loss of the store.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Store is where changes are found.
type Store interface {
	Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error)
	Unmirrored(ctx context.Context, node string, max int) ([]sandbox.Record, error)
	Mirrored(ctx context.Context, node string, versions map[sandbox.ID]uint64) error
}

// Interval is how often the mirror is brought up to date.
const Interval = 2 * time.Second

const batch = 500

// Mirror writes a journal of what its sandboxes shall be. Close must be called.
type Mirror struct {
	node  string
	store Store

	// mu keeps an entry from being written by a step that read its record before Remove.
	mu      sync.Mutex
	journal *journal
	swept   bool
	// believe says whether what the store said just now, with these records among it, may replace what is on the disk.
	believe func(ctx context.Context, read []sandbox.Record) (bool, error)
}

// Open returns the mirror in dir, which is made if it is missing. believe is asked after each reading of the store, with the records that were
// read, whether what it said may replace what is on the disk: a store that has gone back knows less. nil: always.
func Open(dir, node string, store Store, believe func(ctx context.Context, read []sandbox.Record) (bool, error)) (*Mirror, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if believe == nil {
		believe = func(context.Context, []sandbox.Record) (bool, error) { return true, nil }
	}
	j, err := openJournal(dir)
	if err != nil {
		return nil, err
	}
	return &Mirror{node: node, store: store, journal: j, believe: believe}, nil
}

// Close closes the file.
func (m *Mirror) Close() error { return m.journal.close() }

// Read returns what is in the mirror in dir. What cannot be read is left out; err is about the first such line.
func Read(dir string) (map[sandbox.ID]Entry, error) {
	b, err := os.ReadFile(filepath.Join(dir, journalName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	_, entries, err := parseJournal(b)
	return entries, err
}

// Entry is what is kept of a sandbox.
type Entry struct {
	ID         sandbox.ID        `json:"id"`
	Tenant     string            `json:"tenant,omitempty"`
	CreatedAt  time.Time         `json:"createdAt"`
	Epoch      uint64            `json:"epoch"`
	Desired    sandbox.Desired   `json:"desired"`
	Reason     string            `json:"reason,omitempty"`
	Generation uint64            `json:"generation"`
	ExpiresAt  time.Time         `json:"expiresAt,omitzero"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	Spec       sandbox.Spec      `json:"spec"`
	// Version is that of the record; Ports and Reserved are those of its placement, and Ran says that it was Running there.
	Version  uint64            `json:"version"`
	Ports    map[int]int       `json:"ports,omitempty"`
	Reserved sandbox.Resources `json:"reserved,omitzero"`
	Ran      bool              `json:"ran,omitempty"`
}

// Step writes what has changed. It has the shape of a loop's step; the loop's own interval is when it is called again.
func (m *Mirror) Step(ctx context.Context) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.sweep(ctx); err != nil {
		return time.Time{}, err
	}
	for {
		records, err := m.store.Unmirrored(ctx, m.node, batch)
		if err != nil || len(records) == 0 {
			return time.Time{}, err
		}
		if ok, err := m.believe(ctx, records); err != nil || !ok {
			return time.Time{}, err
		}
		versions := make(map[sandbox.ID]uint64, len(records))
		entries := make([]Entry, len(records))
		for i := range records {
			entries[i] = entryOf(&records[i])
			versions[records[i].ID] = records[i].Version
		}
		if err := m.journal.put(entries...); err != nil {
			return time.Time{}, err
		}
		if err := m.store.Mirrored(ctx, m.node, versions); err != nil {
			return time.Time{}, err
		}
		if len(records) < batch {
			return time.Time{}, nil
		}
	}
}

// Remove removes the entry of a sandbox of which nothing is left on the node.
func (m *Mirror) Remove(id sandbox.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.journal.remove(id)
}

// sweep removes, once, the entries that an agent which died has left of sandboxes that are no more. A store that does not know a sandbox may
// have been lost, so its entry stays.
func (m *Mirror) sweep(ctx context.Context) error {
	if m.swept {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(m.journal.lines)) {
		r, err := m.store.Get(ctx, id)
		switch {
		case fault.Is(err, fault.NotFound):
			continue
		case err != nil:
			return err
		case r.Placed() && r.Placement.Node == m.node:
			continue
		}
		if ok, err := m.believe(ctx, nil); err != nil || !ok {
			return err
		}
		if err := m.journal.remove(id); err != nil {
			return err
		}
	}
	m.swept = true
	return nil
}

func entryOf(r *sandbox.Record) Entry {
	return Entry{
		ID: r.ID, Tenant: r.Tenant, CreatedAt: r.CreatedAt, Epoch: r.Placement.Epoch, Desired: r.Intent.Desired,
		Generation: r.Intent.Generation, ExpiresAt: r.Intent.ExpiresAt, Metadata: r.Intent.Metadata, Spec: r.Spec,
		Reason: r.Intent.Reason, Version: r.Version, Ports: r.Placement.Ports, Reserved: r.Placement.Reserved, Ran: r.StartedIn(r.Placement.Epoch),
	}
}
