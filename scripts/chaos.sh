#!/usr/bin/env bash
# The split services on two engines and a Redis with a replica and sentinels, under load, while all of it is killed, stopped and cut off in the
# order of a seed. CHAOS_ARGS are given to the test binary: make chaos ARGS="-seed 7 -for 10m -out DIR".
#
# usage: chaos.sh          one run of whole programs
#        chaos.sh broken   runs of programs that break one promise each, which the checks must notice: make chaos-broken ARGS="-broken lost-patch"
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

case ${1:-} in
'') build=build programs=$ROOT/bin test=(-skip '^TestBrokenBuilds$') ;;
broken) build=build-sabotaged programs=$ROOT/bin/sabotaged test=(-run '^TestBrokenBuilds$') ;;
*) die "usage: chaos.sh [broken]" ;;
esac

have redis-server || install_packages redis-server
scripts/docker-engine.sh --for-tests
scripts/images.sh busybox
export CHAOS_ENGINES="osb-chaos=10.213.92 osb-chaos2=10.213.93" CHAOS_BIN=${CHAOS_BIN:-$programs}

# engines start|stop: both of them.
engines() {
	local each
	for each in $CHAOS_ENGINES; do
		SECOND_ENGINE_NAME=${each%=*} SECOND_ENGINE_SUBNET=${each#*=} scripts/second-engine.sh "$1" >/dev/null
	done
}
trap 'engines stop' EXIT
engines start
make --no-print-directory "$build"
# shellcheck disable=SC2086 # several arguments
go_test -C tests -tags chaos -count=1 -timeout 0 -v ./chaos "${test[@]}" -args ${CHAOS_ARGS:-}
