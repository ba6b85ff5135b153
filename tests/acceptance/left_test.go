//go:build e2e

package acceptance

import (
	"strings"
	"time"
)

// engines are the arguments that choose each engine for Docker's own client.
func (s *server) engines() [][]string {
	if s.split != nil {
		return s.split.engines()
	}
	return [][]string{nil}
}

// containers returns the sandbox ids for which an engine has a container.
func (s *server) containers() []string {
	var ids []string
	for _, engine := range s.engines() {
		out := docker(s.t, append(engine, "ps", "-a", "--filter", "label=dev.opensandbox.installation="+s.installation(), "--format", `{{.Label "opensandbox.io/id"}}`)...)
		ids = append(ids, strings.Fields(out)...)
	}
	return ids
}

// removals waits for what goes after the answer: the container of a create that failed.
func (s *server) removals() {
	for deadline := time.Now().Add(patience); len(s.containers()) > 0 && time.Now().Before(deadline); waitABit() {
	}
}

// nothingLeft fails if an engine still has anything of this platform, and takes away the daemon's volume, which is kept on purpose.
func (s *server) nothingLeft() {
	if left := s.containers(); len(left) > 0 {
		s.t.Errorf("containers left behind: %v", left)
	}
	if left := s.volumes(); len(left) > 0 {
		s.t.Errorf("volumes of sandboxes left behind: %v", left)
	}
	label := "label=dev.opensandbox.execd-of=" + s.installation()
	for _, engine := range s.engines() {
		volumes := strings.Fields(docker(s.t, append(engine, "volume", "ls", "-q", "--filter", label)...))
		if len(volumes) > 1 {
			s.t.Errorf("volumes left behind: %v", volumes)
		}
		for _, v := range volumes {
			docker(s.t, append(engine, "volume", "rm", v)...)
		}
		for _, i := range strings.Fields(docker(s.t, append(engine, "images", "-q", "--filter", label)...)) {
			docker(s.t, append(engine, "rmi", "-f", i)...)
		}
	}
}
