// Package delivery brings the daemon into sandboxes, over nothing but the engine's API: a one-file image fills a volume, which every
// sandbox mounts read-only.
package delivery

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
)

// Where the daemon is in a sandbox, as in OpenSandbox 1.1.1.
const (
	Dir  = "/opt/opensandbox"
	Path = Dir + "/execd"
)

// Source is an execd binary.
type Source struct {
	binary []byte
}

// FromPath reads the binary from a file. It must be a static executable for this machine's kind, since it runs in any image.
func FromPath(path string) (Source, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Source{}, fmt.Errorf("execd: %w", err)
	}
	f, err := elf.Open(path)
	if err != nil {
		return Source{}, fmt.Errorf("execd %s is not an executable for Linux: %w", path, err)
	}
	defer f.Close()
	if libs, err := f.ImportedLibraries(); err == nil && len(libs) > 0 {
		return Source{}, fmt.Errorf("execd %s needs %v; it must be linked statically (CGO_ENABLED=0)", path, libs)
	}
	return Source{b}, nil
}

// Embedded returns the binary that was built into this program.
func Embedded() (Source, error) {
	if len(embedded) == 0 {
		return Source{}, errors.New("this program was built without execd: build it with make, or set agent.execd_path")
	}
	return Source{embedded}, nil
}

// hash names the content. Twelve digits are plenty: they tell versions apart, not adversaries.
func (s Source) hash() string {
	sum := sha256.Sum256(s.binary)
	return hex.EncodeToString(sum[:6])
}
