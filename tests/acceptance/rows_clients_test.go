//go:build e2e

package acceptance

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// arguments names places to the scripts of the published SDKs.
func arguments(all []place) []string {
	var out []string
	for _, p := range all {
		shell := "no"
		if p.shell {
			shell = "yes"
		}
		out = append(out, fmt.Sprintf("%s:%s:%s:%s", p.id, p.names(), p.dir, shell))
	}
	return out
}

// The published SDKs at each place: asynchronous Python and JavaScript directly, synchronous Python and JavaScript through the server.
func TestRow20To31ByThePublishedSDKs(t *testing.T) {
	t.Parallel()
	python := filepath.Join(needEnv(t, "OPENSANDBOX_TEST_VENV"), "bin", "python")
	module := filepath.Join(needEnv(t, "OPENSANDBOX_TEST_NODE_MODULES"), "@alibaba-group", "opensandbox", "dist", "index.js")
	s, all := places(t)
	for ok, command := range map[string][]string{
		"async direct": {python, "clients/rows.py", "async", "direct"},
		"sync proxied": {python, "clients/rows.py", "sync", "proxied"},
		"js direct":    {"node", "clients/rows.mjs", module, "direct"},
		"js proxied":   {"node", "clients/rows.mjs", module, "proxied"},
	} {
		t.Run(ok, func(t *testing.T) {
			t.Parallel()
			out, err := s.program(command[0], append(command[1:], arguments(all)...)...)
			if err != nil || !strings.Contains(out, ok+" rows ok") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
