#!/usr/bin/env bash
# Fuzzes every parser of foreign input, two at a time, each for FUZZ_TIME (60s). What is found that is new stays in Go's build cache and is
# the start of the next run; an input that fails is written to testdata/fuzz of its package, where it stays as a test.
#
# usage: fuzz.sh [PATTERN]      only targets whose "package Name" matches the extended regular expression
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

time=${FUZZ_TIME:-60s}
at_once=${FUZZ_AT_ONCE:-2}
logs=$(mktemp -d "${TMPDIR:-/tmp}/opensandbox.XXXXXX")
trap 'rm -rf "$logs"' EXIT
trap 'kill 0' INT TERM

# targets prints "folder Name" of each fuzz target.
targets() {
	grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' libs services tests |
		sed -E 's|^(.*)/[^/]+:func (.*)$|./\1 \2|' | sort
}

# fuzz FOLDER NAME: prints one line, and everything if it fails.
fuzz() {
	local log=$logs/$2.${1//\//_}
	if go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" -parallel 1 "$1" >"$log" 2>&1; then
		printf 'ok    %-32s %s  %s\n' "$2" "$1" "$(grep -oE 'execs: [0-9]+' "$log" | tail -n 1)"
		return 0
	fi
	printf 'FAIL  %-32s %s\n' "$2" "$1"
	cat "$log"
	touch "$logs/failed"
}

found=$(targets | grep -E -- "${1:-.}") || die "no fuzz target matches ${1:-}"
say "$(wc -l <<<"$found") targets, $time each, $at_once at a time"
while read -r folder name; do
	while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do wait -n || true; done
	fuzz "$folder" "$name" &
done <<<"$found"
wait
[ ! -e "$logs/failed" ] || die "a target has failed; its input is in testdata/fuzz of its package"
