#!/usr/bin/env bash
# Runs test suites, each with a budget that ends it, up to the first failure, and prints what each took. Without names: all of
# them, set-up first. Exit code 0 means that every suite ran and passed. The last line is "N passed, N failed" and counts suites.
#
# usage: test.sh [SUITE…]
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

# Budgets in minutes, for two cores and empty caches; together 60.
SUITES='setup:10 lint:5 unit:8 simulate:4 integration:8 e2e:25'

# A suite runs in a process group of its own, so that its end is the end of all that it started.
running=
trap '[ -z "$running" ] || kill -TERM "$running" 2>/dev/null; exit 130' INT TERM

run_suite() {
	local name=$1 budget=$2 start=$SECONDS status=0 verdict used
	printf '\n=== %s (budget %d min)\n' "$name" "$budget"
	timeout -k 10 "${budget}m" bash "scripts/suites/$name.sh" </dev/null &
	running=$!
	wait "$running" || status=$?
	running=
	used=$((SECONDS - start))
	case "$status" in
	0) verdict=passed passed=$((passed + 1)) ;;
	124 | 137) verdict="FAILED (over its budget)" failed=$((failed + 1)) ;;
	*) verdict="FAILED (exit code $status)" failed=$((failed + 1)) ;;
	esac
	summary+=$(printf '%-12s %2d min %02d s of %2d min  %s' "$name" $((used / 60)) $((used % 60)) "$budget" "$verdict")$'\n'
	printf '=== %s: %s after %d s\n' "$name" "$verdict" "$used"
	[ "$status" = 0 ]
}

wanted() {
	local name
	[ "$#" = 1 ] && return 0
	for name in "${@:2}"; do [ "$name" = "$1" ] && return 0; done
	return 1
}

main() {
	local entry name total=0 stop=
	for name in "$@"; do
		case " $SUITES" in *" $name:"*) ;; *) die "unknown suite $name; there are: $SUITES (with minutes)" ;; esac
	done
	for entry in $SUITES; do
		if wanted "${entry%:*}" "$@"; then total=$((total + ${entry#*:})); fi
	done
	say "Time budget: $total min in all."
	for entry in $SUITES; do
		name=${entry%:*}
		wanted "$name" "$@" || continue
		if [ -n "$stop" ]; then
			summary+=$(printf '%-12s not run' "$name")$'\n'
			continue
		fi
		run_suite "$name" "${entry#*:}" || stop=$name
	done
	printf '\n%s\n' "$summary"
	say "Time used: $((SECONDS / 60)) min $((SECONDS % 60)) s of $total min."
	[ -z "$stop" ] || say "Stopped at the first failure: $stop (again alone: scripts/test.sh $stop)."
	say "$passed passed, $failed failed"
	[ "$failed" = 0 ]
}

passed=0 failed=0 summary=
main "$@"
