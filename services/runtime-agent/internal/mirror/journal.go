package mirror

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"opensandbox/libs/sandbox"
)

// journalName is the file of a mirror in its directory.
const journalName = "journal"

// slack is how many bytes of a journal may be out of date, besides as many as are not, before it is written anew.
const slack = 1 << 20

// line is one line of the journal: an entry, or the news that there is none any more.
type line struct {
	Entry
	Removed bool `json:"removed,omitempty"`
}

// journal is a file that lines are added to; the last one about a sandbox counts. Adding a line costs far less than making a file for each
// sandbox and putting it in place of the one before. A process that dies may leave half a line at the end, which is passed over.
type journal struct {
	path string
	file *os.File
	// lines are those that count, each with its end.
	lines map[sandbox.ID][]byte
	// live is their length, and size that of the file.
	live, size int
}

var errUnreadable = errors.New("it is not what was written")

// parseJournal returns the lines that count. One that cannot be read is left out; err is about the first that is not the last of the file.
func parseJournal(b []byte) (lines map[sandbox.ID][]byte, entries map[sandbox.ID]Entry, err error) {
	lines, entries = map[sandbox.ID][]byte{}, map[sandbox.ID]Entry{}
	for n := 1; len(b) > 0; n++ {
		text, rest, whole := bytes.Cut(b, []byte{'\n'})
		var l line
		failed := json.Unmarshal(text, &l)
		switch {
		case failed != nil || l.ID == "":
			if whole && err == nil {
				err = fmt.Errorf("mirror: line %d: %w", n, errors.Join(errUnreadable, failed))
			}
		case l.Removed:
			delete(lines, l.ID)
			delete(entries, l.ID)
		default:
			lines[l.ID], entries[l.ID] = append(bytes.Clone(text), '\n'), l.Entry
		}
		b = rest
	}
	return lines, entries, err
}

// openJournal opens the journal in dir, without what is out of date in it. Lines that cannot be read are gone then.
func openJournal(dir string) (*journal, error) {
	j := &journal{path: filepath.Join(dir, journalName)}
	b, err := os.ReadFile(j.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	j.lines, _, _ = parseJournal(b)
	for _, l := range j.lines {
		j.live += len(l)
	}
	return j, j.renew()
}

// put adds entries.
func (j *journal) put(entries ...Entry) error {
	added := map[sandbox.ID][]byte{}
	var b []byte
	for _, e := range entries {
		text, err := json.Marshal(line{Entry: e})
		if err != nil {
			return fmt.Errorf("mirror: %w", err)
		}
		text = append(text, '\n')
		added[e.ID], b = text, append(b, text...)
	}
	if err := j.write(b); err != nil {
		return err
	}
	for id, text := range added {
		j.live += len(text) - len(j.lines[id])
		j.lines[id] = text
	}
	return j.tidy()
}

// remove says that there is no entry of a sandbox any more.
func (j *journal) remove(id sandbox.ID) error {
	if j.lines[id] == nil {
		return nil
	}
	text, err := json.Marshal(struct {
		ID      sandbox.ID `json:"id"`
		Removed bool       `json:"removed"`
	}{id, true})
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	if err := j.write(append(text, '\n')); err != nil {
		return err
	}
	j.live -= len(j.lines[id])
	delete(j.lines, id)
	return j.tidy()
}

// write adds whole lines. What a full disk took of them is taken back, so that the next line does not begin within one.
func (j *journal) write(b []byte) error {
	if _, err := j.file.Write(b); err != nil {
		return fmt.Errorf("mirror: %w", errors.Join(err, j.file.Truncate(int64(j.size))))
	}
	j.size += len(b)
	return nil
}

// tidy writes the journal anew when most of it is out of date.
func (j *journal) tidy() error {
	if j.size <= 2*j.live+slack {
		return nil
	}
	return j.renew()
}

// renew writes the lines that count beside the journal and puts them in its place, so that a crash never meets half of them.
func (j *journal) renew() error {
	f, err := os.OpenFile(j.path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	b := make([]byte, 0, j.live)
	for _, l := range j.lines {
		b = append(b, l...)
	}
	_, err = f.Write(b)
	if err == nil {
		err = os.Rename(f.Name(), j.path)
	}
	if err != nil {
		return fmt.Errorf("mirror: %w", errors.Join(err, f.Close()))
	}
	old := j.file
	j.file, j.size = f, len(b)
	if old != nil {
		_ = old.Close() // nothing of it counts any more
	}
	return nil
}

func (j *journal) close() error { return j.file.Close() }
