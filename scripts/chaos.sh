#!/usr/bin/env bash
# The split services on two engines and a Redis with a replica and sentinels, under load, while all of it is killed, stopped and cut off in the
# order of a seed. CHAOS_ARGS are given to the test binary: make chaos ARGS="-seed 7 -for 10m -out DIR".
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

have redis-server || install_packages redis-server
scripts/docker-engine.sh --for-tests
scripts/images.sh busybox
export CHAOS_ENGINES="osb-chaos=10.213.92 osb-chaos2=10.213.93" CHAOS_BIN=${CHAOS_BIN:-$ROOT/bin}

# engines start|stop: both of them.
engines() {
	local each
	for each in $CHAOS_ENGINES; do
		SECOND_ENGINE_NAME=${each%=*} SECOND_ENGINE_SUBNET=${each#*=} scripts/second-engine.sh "$1" >/dev/null
	done
}
trap 'engines stop' EXIT
engines start
make --no-print-directory build
# shellcheck disable=SC2086 # several arguments
go_test -C tests -tags chaos -count=1 -timeout 0 -v ./chaos -args ${CHAOS_ARGS:-}
