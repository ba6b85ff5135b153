#!/usr/bin/env bash
# The kill matrix: programs that end themselves (SIGKILL) or stand still (SIGSTOP) right before and right after each step of what they do, on
# two real Docker engines.
#
# usage: kill-matrix.sh short   the steps of create and delete, with SIGKILL: part of make test
#        kill-matrix.sh kills   every step of the single binary and of the split services with SIGKILL, and one operation with SIGSTOP
#        kill-matrix.sh stops   every step with SIGSTOP, and of agents also until their node has been given up
#        kill-matrix.sh all     both
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

KILLS='TestEveryStepIsInTheKillMatrix|TestKillMatrix|TestSplitKillMatrix'
STOPS='TestStopMatrix|TestSplitStopMatrix|TestSplitLossMatrix'
case ${1:-} in
short) kills='TestEveryStepIsInTheKillMatrix|TestKillMatrix$/^(create|delete)$|TestSplitKillMatrix/^(create|delete)$' stops='' ;;
kills) kills=$KILLS stops='TestStopMatrix/^renew$' ;;
stops) kills='' stops=$STOPS ;;
all) kills=$KILLS stops=$STOPS ;;
*) die "usage: kill-matrix.sh short|kills|stops|all" ;;
esac

scripts/docker-engine.sh --for-tests
scripts/images.sh busybox
second=$(scripts/second-engine.sh start)
eval "$second"
trap 'scripts/second-engine.sh stop' EXIT
make --no-print-directory build-sabotaged
export OPENSANDBOX_TEST_SERVER_BIN=$ROOT/bin/sabotaged/opensandbox-server
# Most of it is waiting, so that more run side by side than there are processors.
run() { go_test -C tests -tags e2e,sabotage -count=1 -timeout 45m -parallel "$1" ./acceptance -run "$2"; }
[ -z "$kills" ] || run 4 "$kills"
[ -z "$stops" ] || run 12 "$stops"
