package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"opensandbox/libs/settings"
)

// configMode keeps the file to its owner: it will hold the API key.
const configMode = 0o600

// InitConfig is the command that writes a configuration file, with the flags and exit codes of OpenSandbox 1.1.1. Why it failed is said on
// standard output, as there.
func InitConfig() Command {
	return Command{
		Name: "init-config", Operand: "PATH", Alone: true, About: "write a configuration file that explains every key; default: ~/.sandbox.toml",
		Flags: []Flag{{Name: "example", Value: "KIND", Words: settings.Examples()}, {Name: "force"}},
		Run: func(_ context.Context, _ settings.Settings, c Call) error {
			text, err := settings.Example(c.Flags["example"])
			if err != nil {
				return misused("--example: " + err.Error())
			}
			path, err := configPath(c)
			if err == nil {
				err = writeConfig(path, text, c.Flags["force"] == "true")
			}
			if err != nil {
				return told{fmt.Errorf("init-config: %w", err)}
			}
			_, err = fmt.Fprintf(c.Stdout, "wrote %s\n", path)
			return err
		},
	}
}

// told is an error that belongs on standard output.
type told struct{ error }

func configPath(c Call) (string, error) {
	path := c.Operand
	if path == "" {
		path = "~/.sandbox.toml"
	}
	rest, inHome := strings.CutPrefix(path, "~/")
	if !inHome {
		return path, nil
	}
	home, ok := c.Lookup("HOME")
	if !ok || home == "" {
		return "", errors.New("HOME is not set: name the file")
	}
	return filepath.Join(home, rest), nil
}

// writeConfig never leaves half a file: it is written beside and put in place at once.
func writeConfig(path, text string, force bool) error {
	if !force {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return err
			}
			return fmt.Errorf("%s exists; --force writes over it", path)
		}
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".init-config-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it is gone if all went well
	if _, err := f.WriteString(text); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Chmod(configMode), f.Close()); err != nil {
		return err
	}
	if force {
		return os.Rename(f.Name(), path)
	}
	// A link fails if somebody else was faster, where a rename would write over their file.
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists; --force writes over it", path)
	} else if err != nil {
		return err
	}
	return nil
}

// MigrateSnapshots is a command of OpenSandbox 1.1.1 that has nothing to do here, and says so.
func MigrateSnapshots() Command {
	return Command{
		Name: "migrate-snapshots", Alone: true, About: "not needed: says why",
		Flags: []Flag{{Name: "from", Value: "PATH"}, {Name: "to", Value: "DSN"}, {Name: "dry-run"}},
		Run: func(context.Context, settings.Settings, Call) error {
			return errors.New("migrate-snapshots: there is no PostgreSQL store to move snapshots to; several servers share a Redis instead: " +
				`set store.type = "redis" and store.redis_url`)
		},
	}
}
