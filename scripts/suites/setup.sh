#!/usr/bin/env bash
# Everything that the other suites need: packages, a Docker engine, images, the published clients, the binaries.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"

scripts/packages.sh
scripts/docker-engine.sh --for-tests
scripts/images.sh busybox debian-python scratch-static
scripts/clients.sh >/dev/null
scripts/schemathesis.sh install
progress "Fetching Go modules" go mod download
progress "Building the binaries" make --no-print-directory build
scripts/compose-images.sh third-party
