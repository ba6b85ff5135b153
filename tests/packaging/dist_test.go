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
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDist makes the archives: they must hold programs for their architecture, and pages whose links lead somewhere. One is made again from
// a copy of the sources in another directory, and must be the same to the byte.
func TestDist(t *testing.T) {
	const again = "opensandbox-9.9.9-linux-amd64.tar.gz"
	env := []string{"VERSION=9.9.9", "SOURCE_DATE_EPOCH=1767225600"}
	dir := t.TempDir()
	run(t, env, "scripts/dist.sh", dir)
	sums := checksums(t, dir)
	if len(sums) != 2 {
		t.Errorf("there are %d archives, want 2: %v", len(sums), sums)
	}
	for name, sum := range sums {
		machine := elf.EM_X86_64
		if strings.HasSuffix(name, "-linux-arm64.tar.gz") {
			machine = elf.EM_AARCH64
		}
		checkArchive(t, filepath.Join(dir, name), sum, machine)
	}
	copied, second := copyOfSources(t), t.TempDir()
	run(t, env, filepath.Join(copied, "scripts/dist.sh"), second, "amd64")
	if got := checksums(t, second); len(got) != 1 || got[again] != sums[again] {
		t.Errorf("the archive differs from directory to directory: %v, %v", sums, got)
	}
	cmd := exec.CommandContext(t.Context(), "tar", "-xzf", filepath.Join(dir, again), "-C", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("unpack: %v %s", err, out)
	}
	unpacked := filepath.Join(dir, strings.TrimSuffix(again, ".tar.gz"))
	if out := run(t, nil, filepath.Join(unpacked, "bin/opensandbox-server"), "--version"); !strings.Contains(out, "9.9.9") {
		t.Errorf("--version: %s", out)
	}
	checkLinks(t, unpacked)
}

// checksums returns the sums in SHA256SUMS by the name of the archive.
func checksums(t *testing.T, dir string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(text)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		sums[name] = sum
	}
	return sums
}

// copyOfSources returns a directory with the files that the repository tracks, as they are now.
func copyOfSources(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run(t, []string{"TO=" + dir}, "bash", "-c", `set -euo pipefail; git ls-files -z | tar --null --files-from=- -cf - | tar -xf - -C "$TO"`)
	return dir
}

// link matches what a page links to, without the place in it.
var link = regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)

// checkLinks fails for every relative link of a page below the directory that leads nowhere.
func checkLinks(t *testing.T, dir string) {
	t.Helper()
	links := 0
	for name := range files(t, dir) {
		if filepath.Ext(name) != ".md" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(found[1], ":") {
				continue // it leads elsewhere
			}
			links++
			if _, err := os.Stat(filepath.Join(dir, filepath.Dir(name), found[1])); err != nil {
				t.Errorf("%s links to %s, which is not in the archive", name, found[1])
			}
		}
	}
	if links < 20 {
		t.Errorf("only %d links were found: the search is broken", links)
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
