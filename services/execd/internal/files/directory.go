package files

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// maxSorted is how many entries of a directory are in memory at a time.
const maxSorted = 1 << 16

// entries calls each for the entries of a directory, by name. Those of a directory with more than 65,536 come in parts, each by name: all
// of them may need more memory than there is. The error is that of each, if it has one.
func entries(dir string, each func(fs.DirEntry) error) error { return inParts(dir, maxSorted, each) }

func inParts(dir string, size int, each func(fs.DirEntry) error) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		part, err := f.ReadDir(size)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(part) < size {
			f.Close() // Nothing more comes of it: what is below needs descriptors of its own.
		}
		slices.SortFunc(part, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		for _, e := range part {
			if err := each(e); err != nil {
				return err
			}
		}
		if len(part) < size {
			return nil
		}
	}
}
