package sandbox_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/sandbox"
)

var update = flag.Bool("update", false, "rewrite docs/state-machine.md")

// stateMachinePath is relative to this package.
var stateMachinePath = filepath.Join("..", "..", "docs", "state-machine.md")

// renderStateMachine writes the table of moves for readers.
func renderStateMachine() string {
	var b strings.Builder
	b.WriteString("# States of a sandbox\n\n" +
		"What clients see. This page is written by `go test ./sandbox -run TestStateMachineDocument -update` in `libs` from the table in\n" +
		"`libs/sandbox/state.go`; change the table and not the page.\n\n" +
		"| from | to |\n|---|---|\n")
	for _, s := range sandbox.States() {
		next := sandbox.NextStates(s)
		if len(next) == 0 {
			fmt.Fprintf(&b, "| %s | the end: the record is not shown any more |\n", s)
			continue
		}
		names := make([]string, 0, len(next))
		for _, n := range next {
			names = append(names, string(n))
		}
		fmt.Fprintf(&b, "| %s | %s |\n", s, strings.Join(names, ", "))
	}
	b.WriteString("\n```mermaid\nstateDiagram-v2\n    [*] --> Pending\n")
	for _, s := range sandbox.States() {
		for _, n := range sandbox.NextStates(s) {
			fmt.Fprintf(&b, "    %s --> %s\n", s, n)
		}
	}
	b.WriteString("    Stopping --> [*]\n```\n\n" +
		"A client that reads now and then can miss steps that were short: it may see any state that can be reached from the last one it saw.\n" +
		"Pausing, Resuming and Stopping are never observed; they follow from a wish that has not been carried out yet. A pause that fails goes\n" +
		"from Pausing back to Running, a resume that fails from Resuming back to Paused.\n")
	return b.String()
}

func TestStateMachineDocument(t *testing.T) {
	want := renderStateMachine()
	if *update {
		if err := os.MkdirAll(filepath.Dir(stateMachinePath), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(stateMachinePath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(stateMachinePath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is not what the table says; run this test with -update (-want +got):\n%s", stateMachinePath, diff)
	}
}

func TestStateMachineTable(t *testing.T) {
	t.Parallel()
	all := sandbox.States()
	for _, s := range all {
		next := sandbox.NextStates(s)
		for _, n := range next {
			if !slices.Contains(all, n) || n == s {
				t.Errorf("%s is followed by %s", s, n)
			}
		}
		if s != sandbox.StateStopping && !slices.Contains(next, sandbox.StateStopping) {
			t.Errorf("%s cannot be stopped", s)
		}
		if !sandbox.CanFollow(sandbox.StatePending, s) {
			t.Errorf("%s cannot be reached", s)
		}
		if sandbox.CanFollow(sandbox.StateStopping, s) != (s == sandbox.StateStopping) {
			t.Errorf("%s after Stopping", s)
		}
		// What has ended or failed is never made again; what was lost with its node may be.
		ended := slices.Contains([]sandbox.State{sandbox.StateTerminated, sandbox.StateFailed, sandbox.StateStopping}, s)
		if sandbox.CanFollow(s, sandbox.StatePending) == ended {
			t.Errorf("Pending after %s: %v", s, !ended)
		}
	}
	if sandbox.CanFollow(sandbox.StateTerminated, sandbox.StateRunning) {
		t.Error("Running after Terminated")
	}
}
