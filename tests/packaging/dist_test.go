//go:build e2e

package packaging

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDist makes the archives twice, in two directories: they must be the same to the byte, and hold programs for their architecture.
func TestDist(t *testing.T) {
	env := []string{"VERSION=9.9.9", "SOURCE_DATE_EPOCH=1767225600"}
	var sums [2]string
	var dir string
	for i := range sums {
		dir = t.TempDir()
		run(t, env, "scripts/dist.sh", dir)
		text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(text)
	}
	if sums[0] != sums[1] || strings.Count(sums[0], "\n") != 2 {
		t.Errorf("the archives differ from run to run:\n%s\n%s", sums[0], sums[1])
	}
	for line := range strings.Lines(sums[0]) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		machine := elf.EM_X86_64
		if strings.HasSuffix(name, "-linux-arm64.tar.gz") {
			machine = elf.EM_AARCH64
		}
		checkArchive(t, filepath.Join(dir, name), sum, machine)
	}
	cmd := exec.CommandContext(t.Context(), "tar", "-xzf", filepath.Join(dir, "opensandbox-9.9.9-linux-amd64.tar.gz"), "-C", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("unpack: %v %s", err, out)
	}
	if out := run(t, nil, filepath.Join(dir, "opensandbox-9.9.9-linux-amd64/bin/opensandbox-server"), "--version"); !strings.Contains(out, "9.9.9") {
		t.Errorf("--version: %s", out)
	}
}

// checkArchive looks at the sum of an archive, at what its entries say of their origin, and at the programs.
func checkArchive(t *testing.T, path, sum string, machine elf.Machine) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	hash := sha256.New()
	packed, err := gzip.NewReader(io.TeeReader(f, hash))
	if err != nil {
		t.Fatal(err)
	}
	programs := 0
	for r := tar.NewReader(packed); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || !h.ModTime.Equal(time.Unix(1767225600, 0)) {
			t.Errorf("%s: %s tells of the machine that made it: %d:%d %q %s", path, h.Name, h.Uid, h.Gid, h.Uname, h.ModTime)
		}
		if !strings.Contains(h.Name, "/bin/opensandbox-") {
			continue
		}
		programs++
		checkProgram(t, path, h.Name, r, machine)
	}
	if _, err := io.Copy(io.Discard, io.TeeReader(f, hash)); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum || programs != 6 {
		t.Errorf("%s: sum %s, want %s; %d programs", path, got, sum, programs)
	}
}

func checkProgram(t *testing.T, archive, name string, r io.Reader, machine elf.Machine) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, r); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	program, err := elf.Open(out)
	if err != nil {
		t.Fatalf("%s: %s: %v", archive, name, err)
	}
	defer program.Close()
	if libraries, err := program.ImportedLibraries(); program.Machine != machine || len(libraries) > 0 {
		t.Errorf("%s: %s is for %v and needs %q, %v", archive, name, program.Machine, libraries, err)
	}
}
