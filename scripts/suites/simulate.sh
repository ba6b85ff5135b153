#!/usr/bin/env bash
# The whole control plane on simulated time, engine and crashes. A failing run prints the seed that replays it.
# SIMULATE_ARGS are given to the test binary (make simulate SEEDS=… ARGS="…").
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"

arguments=${SIMULATE_ARGS:-}
[ -n "${arguments// /}" ] || arguments='-schedules 100000'
# shellcheck disable=SC2086 # several arguments
go_test -C tests ./simulation/... -count=1 -timeout 0 -args $arguments
