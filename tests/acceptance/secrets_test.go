//go:build e2e

package acceptance

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"opensandbox/libs/secrettest"
)

// inspections returns all that the engines tell of the containers and their images: labels, environments, commands.
func (s *server) inspections() map[string]string {
	out := map[string]string{}
	for _, engine := range s.engines() {
		for _, c := range strings.Fields(docker(s.t, append(engine, "ps", "-aq", "--filter", "label=dev.opensandbox.installation="+s.installation())...)) {
			text := s.inspection(engine, "inspect", c)
			if text == nil {
				continue
			}
			out["docker inspect "+c] = string(text)
			var of []struct{ Image string }
			if err := json.Unmarshal(text, &of); err != nil || len(of) != 1 {
				s.t.Fatalf("docker inspect %s: %v: %s", c, err, text)
			}
			image := of[0].Image
			out["docker image inspect "+image] = string(s.inspection(engine, "image", "inspect", image))
		}
	}
	return out
}

// inspection returns what an engine tells of one thing, or nil if that has been removed meanwhile.
func (s *server) inspection(engine []string, args ...string) []byte {
	text, err := exec.Command("docker", slices.Concat(engine, args)...).Output()
	if err != nil && strings.TrimSpace(string(text)) == "[]" {
		return nil
	}
	if err != nil {
		s.t.Fatalf("docker %v: %v", args, err)
	}
	return text
}

// showsNoSecret fails if a secret is in anything that this platform has written: the logs of its processes, the store and the mirror of the
// nodes, Redis with its log, what the engines tell.
func (s *server) showsNoSecret(seen map[string]string) {
	for where, text := range seen {
		secrettest.Absent(s.t, where, text)
	}
	roots := []string{s.dir}
	if s.split != nil {
		roots = append(roots, s.split.redis.Dir())
	}
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".toml") {
				return err // the configuration has the secrets that it was given
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			secrettest.Absent(s.t, path, text)
			return nil
		})
		if err != nil {
			s.t.Errorf("search for secrets: %v", err)
		}
	}
}
