#!/usr/bin/env bash
# The whole control plane on simulated time, engine and crashes. A failing run prints the seed that replays it.
# SIMULATE_ARGS are given to the test binary (make simulate ARGS="…").
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"

# shellcheck disable=SC2086 # several arguments
go_test -C tests ./simulation/... -count=1 ${SIMULATE_ARGS:+-args $SIMULATE_ARGS}
