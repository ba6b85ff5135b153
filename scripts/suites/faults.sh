#!/usr/bin/env bash
# Faults: the programs end by SIGKILL right before and right after each step of a create and a delete, and then the split services live through a
# minute of everything that can happen to them, on two real Docker engines.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"

scripts/kill-matrix.sh short
CHAOS_ARGS="-seed 17090 -for 60s" scripts/chaos.sh
