//go:build e2e

package acceptance

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// secrets are those that the tests have used so far. All output of the suite is searched for them: what the processes write is looked at when
// they end, what the tests themselves write at the end of the suite.
var secrets = &secretList{names: map[string]string{}}

// secretList may be used concurrently.
type secretList struct {
	mu sync.Mutex
	// names says what each secret is.
	names map[string]string
}

// fresh returns a secret that nobody else has.
func (l *secretList) fresh(what string) string {
	s := "secret-" + rand.Text()
	l.note(what, s)
	return s
}

func (l *secretList) note(what, secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names[secret] = what
}

func (l *secretList) all() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.names)
}

// in returns which of the secrets a text has in it, as they are or in base64.
func (l *secretList) in(text []byte) []string {
	var found []string
	for secret, what := range l.all() {
		if bytes.Contains(text, []byte(secret)) || bytes.Contains(text, []byte(base64.StdEncoding.EncodeToString([]byte(secret)))) {
			found = append(found, what)
		}
	}
	return found
}

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
		for _, what := range secrets.in([]byte(text)) {
			s.t.Errorf("%s is in %s", what, where)
		}
	}
	roots := []string{s.dir}
	if s.split != nil {
		roots = append(roots, s.split.redisDir)
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
			for _, what := range secrets.in(text) {
				s.t.Errorf("%s is in %s", what, path)
			}
			return nil
		})
		if err != nil {
			s.t.Errorf("search for secrets: %v", err)
		}
	}
}

// TestMain searches what the tests write.
func TestMain(m *testing.M) {
	os.Exit(searched(m))
}

// searched runs the tests with their output copied, and returns the exit status. It fails if the copy has a secret in it.
func searched(m *testing.M) int {
	var copied bytes.Buffer
	var all sync.WaitGroup
	real := []*os.File{os.Stdout, os.Stderr}
	var ends []*os.File
	var mu sync.Mutex
	for i, to := range []**os.File{&os.Stdout, &os.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			fmt.Fprintln(os.Stderr, "copy the output of the tests:", err)
			return 1
		}
		*to = w
		ends = append(ends, w)
		all.Go(func() { _, _ = io.Copy(io.MultiWriter(real[i], lockedWriter{&mu, &copied}), r) })
	}
	status := m.Run()
	for _, w := range ends {
		_ = w.Close()
	}
	all.Wait()
	os.Stdout, os.Stderr = real[0], real[1]
	for _, what := range secrets.in(copied.Bytes()) {
		fmt.Printf("FAIL: %s is in what the tests have written\n", what)
		status = max(status, 1)
	}
	return status
}

// lockedWriter lets several write into one.
type lockedWriter struct {
	mu *sync.Mutex
	to io.Writer
}

// Write implements io.Writer.
func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

// TestSecretsAreFound: a search that finds nothing must be able to find something.
func TestSecretsAreFound(t *testing.T) {
	l := &secretList{names: map[string]string{}}
	s := l.fresh("a password")
	for text, want := range map[string]int{
		"x" + s + "y": 1, base64.StdEncoding.EncodeToString([]byte(s)): 1, s[1:]: 0, "": 0,
	} {
		if got := l.in([]byte(text)); len(got) != want {
			t.Errorf("found %q", got)
		}
	}
}
