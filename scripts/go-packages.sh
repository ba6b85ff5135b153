#!/usr/bin/env bash
# Prints the folders of all modules that have tests behind a build tag; fails if there are none, so that no suite passes empty.
#
# usage: go-packages.sh TAG
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

folders=$(grep -rlE --include='*_test.go' "^//go:build .*\\b$1\\b" libs services tests | xargs -r -n 1 dirname | sort -u)
[ -n "$folders" ] || die "no package has tests with the build tag $1"
while read -r folder; do say "./$folder"; done <<<"$folders"
