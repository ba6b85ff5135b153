// Command find-secrets looks for secrets in what a suite of tests has written. It prints the name and the place of each, never its value.
// It fails as well if there is nothing to look for, or nothing to look at: then it would have shown nothing.
//
// usage: find-secrets LIST FILE|FOLDER…
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"opensandbox/libs/secrettest"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run looks for the secrets of the first path in what the others name, and prints one line for each place.
func run(paths []string, out io.Writer) error {
	if len(paths) < 2 {
		return errors.New("usage: find-secrets LIST FILE|FOLDER…")
	}
	secrets, err := read(paths[0])
	if err != nil {
		return fmt.Errorf("%s: %w", paths[0], err)
	}
	search := secrettest.NewSearch(secrets)
	found, looked := 0, 0
	for _, root := range paths[1:] {
		before := looked
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			looked += len(text)
			for _, f := range search.In(text) {
				found++
				fmt.Fprintf(out, "%s shows %s\n", path, f)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if looked == before {
			return fmt.Errorf("%s is empty", root)
		}
	}
	if found > 0 {
		return fmt.Errorf("secrets are shown in %d places", found)
	}
	fmt.Fprintf(out, "None of %d secrets is shown in %d KiB of output.\n", len(secrets), (looked+1023)/1024)
	return nil
}

func read(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return secrettest.ReadList(f)
}
