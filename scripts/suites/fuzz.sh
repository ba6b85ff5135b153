#!/usr/bin/env bash
# Every parser of foreign input, a minute of new inputs each; those that are kept are tests of the suite unit.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"

scripts/fuzz.sh
