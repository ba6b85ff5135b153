package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDependencies keeps the daemon small, and free of the control plane: it runs beside code that nobody trusts.
func TestDependencies(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"opensandbox/services/execd/", "opensandbox/libs/fault", "golang.org/x/sys/unix", "github.com/coder/websocket", "github.com/pelletier/go-toml/v2"}
next:
	for dep := range strings.FieldsSeq(string(out)) {
		first, _, _ := strings.Cut(dep, "/")
		for _, a := range allowed {
			if strings.HasPrefix(dep, a) {
				continue next
			}
		}
		if first == "opensandbox" || strings.Contains(first, ".") {
			t.Errorf("the daemon imports %s", dep)
		}
		if dep == "os/exec" {
			t.Error("the daemon imports os/exec, whose waiting would compete with the reaper")
		}
	}
}
