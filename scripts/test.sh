#!/usr/bin/env bash
# Runs test suites, each with a limit that ends it, and all with one that they share, up to the first failure, and prints what each took.
# Without names: all of them, set-up first. Exit code 0 means that every suite ran and passed. The last line is "N passed, N failed" and counts suites.
#
# All that a suite prints is also kept, until it is over, in a folder that nobody else can read, together with the passwords, keys and tokens
# that its tests have used: a suite that shows one of them has failed (tests/cmd/find-secrets).
#
# usage: test.sh [SUITE…]       TEST_TIME: what all have together, in seconds (3600)
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

# The limit of each suite in minutes, for two cores and empty caches. No suite takes all of its own, so together they may be more than what
# all have: a suite gets what is left of that, where it is less.
SUITES='setup:8 lint:5 unit:8 simulate:10 fuzz:12 integration:11 e2e:26 faults:8'
minute=60
total=${TEST_TIME:-$((60 * minute))}
# Those whose tests use secrets: without a list of them, nothing would have been searched for.
WITH_SECRETS='unit integration e2e faults'

kept=$(mktemp -d "${TMPDIR:-/tmp}/opensandbox.XXXXXX") # mode 0700
shown=
trap '[ -n "$shown" ] || rm -rf "$kept"' EXIT
# A suite runs in a process group of its own, so that its end is the end of all that it started.
running=
trap '[ -z "$running" ] || kill -TERM "$running" 2>/dev/null; exit 130' INT TERM

# printed_and_kept COMMAND…: runs it with what it prints going to a file as well.
printed_and_kept() {
	local status=0 reader
	rm -f "$kept/pipe"
	mkfifo "$kept/pipe"
	# Ctrl-C is for the suite, which may have something to say about it.
	tee -i "$OPENSANDBOX_TEST_OUTPUT/printed" <"$kept/pipe" &
	reader=$!
	"$@" >"$kept/pipe" 2>&1 </dev/null &
	running=$!
	wait "$running" || status=$?
	running=
	# What the suite has left running may keep the pipe open.
	ended "$reader" || kill "$reader" 2>/dev/null || true
	wait "$reader" 2>/dev/null || true
	return "$status"
}

# searched NAME STATUS: looks for secrets in what the suite has written. One that failed may not have used any.
searched() {
	case " $WITH_SECRETS " in *" $1 "*) ;; *) [ -s "$OPENSANDBOX_TEST_SECRETS" ] || return 0 ;; esac
	[ "$2" = 0 ] || [ -s "$OPENSANDBOX_TEST_SECRETS" ] || return 0
	[ -x "$kept/find-secrets" ] || GOWORK=off go build -C tests -buildvcs=false -o "$kept/find-secrets" ./cmd/find-secrets || return 1
	(cd "$kept/$1" && "$kept/find-secrets" "$OPENSANDBOX_TEST_SECRETS" output)
}

# length SECONDS: prints them as minutes and seconds.
length() { printf '%2d min %02d s' $(($1 / 60)) $(($1 % 60)); }

run_suite() {
	local name=$1 limit=$(($2 * minute)) start=$SECONDS status=0 verdict used over='over its limit' whose=limit
	if [ $((total - start)) -lt "$limit" ]; then
		limit=$((total - start)) over='over the time of all suites' whose='left of the time of all suites'
	fi
	if [ "$limit" -lt 1 ]; then
		failed=$((failed + 1))
		summary+=$(printf '%-12s not run: the time of all suites is over' "$name")$'\n'
		return 1
	fi
	printf '\n=== %s (%s: %s)\n' "$name" "$whose" "$(length "$limit")"
	export OPENSANDBOX_TEST_OUTPUT=$kept/$name/output OPENSANDBOX_TEST_SECRETS=$kept/$name/secrets
	mkdir -p "$OPENSANDBOX_TEST_OUTPUT"
	printed_and_kept timeout -k 10 "$limit" bash "scripts/suites/$name.sh" || status=$?
	if searched "$name" "$status"; then
		rm -rf "${kept:?}/$name"
	else
		shown=$name
		warn "error: what $name has written shows secrets of its tests, or cannot be searched; it is left in $kept/$name"
		[ "$status" != 0 ] || status=secrets
	fi
	used=$((SECONDS - start))
	case "$status" in
	0) verdict=passed passed=$((passed + 1)) ;;
	secrets) verdict="FAILED (search for secrets)" failed=$((failed + 1)) ;;
	124 | 137) verdict="FAILED ($over)" failed=$((failed + 1)) ;;
	*) verdict="FAILED (exit code $status)" failed=$((failed + 1)) ;;
	esac
	summary+=$(printf '%-12s %s of %s  %s' "$name" "$(length "$used")" "$(length "$limit")" "$verdict")$'\n'
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
	local entry name stop=
	for name in "$@"; do
		case " $SUITES" in *" $name:"*) ;; *) die "unknown suite $name; there are: $SUITES (with minutes)" ;; esac
	done
	say "Time for all suites: $(length "$total")."
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
	say "Time used: $(length "$SECONDS") of $(length "$total")."
	[ -z "$stop" ] || say "Stopped at the first failure: $stop (again alone: scripts/test.sh $stop)."
	say "$passed passed, $failed failed"
	[ "$failed" = 0 ]
}

passed=0 failed=0 summary=
main "$@"
