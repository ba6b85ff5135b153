#!/usr/bin/env bash
# End to end: the real server binary on a real Docker engine, the published clients, unmodified, and the quick start.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"

scripts/docker-engine.sh --for-tests
scripts/images.sh busybox debian-python scratch-static
clients=$(scripts/clients.sh)
eval "$clients"
make --no-print-directory build
export OPENSANDBOX_SERVER_BIN=$ROOT/bin/opensandbox-server
packages=$(scripts/go-packages.sh e2e)
# shellcheck disable=SC2086 # folder names have no spaces
go_test -tags e2e -p 1 -count=1 -timeout 9m $packages
