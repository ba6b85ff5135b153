#!/usr/bin/env bash
# Unit tests, conformance suites, import rules and the tests of the scripts, with the race detector; then the module files.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"

# The simulation is a suite of its own.
packages=$(go list work | grep -v '^opensandbox/tests/simulation')
# shellcheck disable=SC2086 # package names have no spaces
go_test -race -count=1 $packages
scripts/modules.sh
