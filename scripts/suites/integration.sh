#!/usr/bin/env bash
# Tests against a real Docker engine and a real registry, package after package.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"

scripts/docker-engine.sh --for-tests
scripts/images.sh busybox debian-python debian-jupyter scratch-static
packages=$(scripts/go-packages.sh integration)
# shellcheck disable=SC2086 # folder names have no spaces
go_test -tags integration -p 1 -count=1 $packages
