#!/usr/bin/env bash
# Dense traffic on the single binary, and then on the split services with two engines; afterwards everything must be what it was before.
# Reports and all samples are in soak-results/.
#
# usage: soak.sh [DURATION]   of the traffic on each of both, as Go writes it (10m)
#        soak.sh broken       seconds of traffic on single binaries that keep something of every sandbox, which the soak must notice
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

if [ "${1:-}" = broken ]; then
	scripts/docker-engine.sh --for-tests
	scripts/images.sh busybox
	make --no-print-directory build-sabotaged
	export OPENSANDBOX_TEST_SERVER_BIN=$ROOT/bin/sabotaged/opensandbox-server
	go_test -C tests -tags e2e,sabotage -count=1 -timeout 30m -v ./acceptance -run '^TestSoakNoticesBrokenBuilds$'
	exit
fi

export OPENSANDBOX_TEST_SOAK=${1:-10m} OPENSANDBOX_TEST_SOAK_OUT=$ROOT/soak-results OPENSANDBOX_TEST_SERVER_BIN=$ROOT/bin/opensandbox-server
scripts/docker-engine.sh --for-tests
scripts/images.sh busybox
second=$(scripts/second-engine.sh start)
eval "$second"
trap 'scripts/second-engine.sh stop' EXIT
go_test -C tests -tags e2e -count=1 -timeout 0 -v ./acceptance -run '^TestSoak(Single|Split)$'
say "Reports and samples are in soak-results/."
