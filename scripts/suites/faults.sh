#!/usr/bin/env bash
# Every process is killed at every step that it takes, and then everything at once is killed, stopped and cut off under load: the short forms of
# make kill-matrix and make chaos.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"

scripts/kill-matrix.sh kills
CHAOS_ARGS='-for 60s' scripts/chaos.sh
