package main

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
)

// daemonFiles measures upload and download beside the plain file server, both children of this program.
func (b *bench) daemonFiles(d *daemon) error {
	plain, stop, err := b.plainChild()
	if err != nil {
		return err
	}
	defer stop()
	content := make([]byte, fileSize)
	_, _ = rand.Read(content)
	if err := b.transfers("execd-files", d.url(), d.token, plain, filepath.Join(d.folder, "f"), content); err != nil {
		return err
	}
	b.add(result{Section: "execd-files", Name: "memory of the daemon afterwards (VmRSS)", Samples: []float64{memoryOf(d.cmd.Process.Pid, "VmRSS")}, Unit: "MB",
		Note: fmt.Sprintf("peak %.0f MB", memoryOf(d.cmd.Process.Pid, "VmHWM"))})
	return nil
}

const (
	treeFiles    = 100_000
	treeFolder   = 100 // Files in each folder of the tree.
	searchRounds = 12
)

// daemonSearch measures a search beside find, over the same tree.
func (b *bench) daemonSearch(d *daemon) error {
	root := filepath.Join(d.folder, "tree")
	if err := makeTree(root); err != nil {
		return err
	}
	const some, all = "1,000 of 100,000 by name", "all of 100,000"
	find := []string{"find", root, "!", "-type", "d"}
	for _, way := range []struct {
		name, pattern, target string
		raw                   []string
	}{
		{some, "*.log", "; target ≤ 150 %", append(slices.Clone(find), "-name", "*.log")},
		{all, "**", ", which looks at no file", find},
		// The daemon always tells as much as this prints, and names in place of the numbers of owners, which find would look up for each file.
		{all + ", with details of each", "**", "; target ≤ 150 %", append(slices.Clone(find), "-printf", `%p\t%y\t%s\t%T@\t%C@\t%U\t%G\t%m\n`)},
	} {
		query := url.Values{"path": {root}, "pattern": {way.pattern}}
		var raw, ours []float64
		for i := range searchRounds {
			r, err := timed(func() error { return drainCommand(way.raw) })
			if err != nil {
				return err
			}
			o, err := timed(func() error { return b.send("GET", d.url()+"/files/search?"+query.Encode(), d.token, "", nil) })
			if err != nil {
				return err
			}
			if i > 0 { // The first one reads from the disk.
				raw, ours = append(raw, r), append(ours, o)
			}
		}
		base := b.add(result{Section: "execd-search", Name: "find: " + way.name, Samples: raw})
		got := result{Section: "execd-search", Name: "search: " + way.name, Samples: ours}
		got.Note = fmt.Sprintf("%.0f %% of find%s", 100*got.p(50)/base.p(50), way.target)
		b.add(got)
	}
	b.add(result{Section: "execd-search", Name: "memory of the daemon afterwards (VmRSS)", Samples: []float64{memoryOf(d.cmd.Process.Pid, "VmRSS")}, Unit: "MB",
		Note: fmt.Sprintf("peak %.0f MB", memoryOf(d.cmd.Process.Pid, "VmHWM"))})
	return nil
}

// makeTree makes a tree of small files, two folders deep. One in a hundred is a .log.
func makeTree(root string) error {
	for i := range treeFiles {
		dir := filepath.Join(root, fmt.Sprintf("package-%02d", i/treeFolder/10), fmt.Sprintf("module-%02d", i/treeFolder%10))
		if i%treeFolder == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		ending := ".py"
		if i%100 == 0 {
			ending = ".log"
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("some_file_%06d%s", i, ending)), []byte("x = 1\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}
