#!/usr/bin/env bash
# Fuzzes every parser of foreign input, each for FUZZ_TIME (60s) of the clock, FUZZ_AT_ONCE at a time (five per core, so that each of them
# computes for a fifth of its time). What is found that is new stays in Go's build cache and is the start of the next run; an input that
# fails is written to testdata/fuzz of its package, where it stays as a test.
#
# With --keep nothing new is looked for: of what the cache has, the inputs that reach code which the seeds do not reach are copied to testdata/fuzz,
# small ones only, and none that reads like a secret. They are tests from then on.
#
# usage: fuzz.sh [--keep] [PATTERN]      only targets whose "package Name" matches the extended regular expression
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

keep=
if [ "${1:-}" = --keep ]; then
	keep=yes
	shift
fi
time=${FUZZ_TIME:-60s}
at_once=${FUZZ_AT_ONCE:-$((5 * $(getconf _NPROCESSORS_ONLN)))}
# Kept inputs: bytes of each, and number for a target.
max_size=512
max_kept=12

have timeout || die "needs timeout (coreutils)"
work=$(mktemp -d "${TMPDIR:-/tmp}/opensandbox.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'kill 0' INT TERM
fuzz_cache=$(go env GOCACHE)/fuzz

# targets prints "folder Name" of each fuzz target.
targets() {
	grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' libs services tests |
		sed -E 's|^(.*)/[^/]+:func (.*)$|./\1 \2|' | sort
}

# build FOLDER…: compiles the tests of each, once for all its targets.
build() {
	local folder
	for folder in "$@"; do
		go test -c -fuzz . -o "$work/${folder//\//_}.test" "$folder"
		(cd "$folder" && go list) >"$work/${folder//\//_}.package"
	done
}

# run FOLDER NAME TIME CACHE: fuzzes. The end is an interrupt and not -test.fuzztime, after which the fuzzer now and then takes the end of
# its own time for a failure ("context deadline exceeded").
run() {
	cd "$1"
	exec timeout --foreground --preserve-status -k 60 -s INT "$3" "$work/${1//\//_}.test" -test.run '^$' -test.fuzz "^$2\$" \
		-test.fuzzcachedir "$4" -test.fuzzminimizetime 1s -test.parallel 1
}

# fuzz FOLDER NAME: prints one line, and everything if it fails. A fuzzer that somebody has killed, such as the kernel for want of memory, has
# found nothing yet: it gets a second try.
fuzz() {
	local log=$work/${1//\//_}.$2.log cache attempt status execs
	cache=$fuzz_cache/$(cat "$work/${1//\//_}.package")
	for attempt in first second; do
		status=0
		(run "$1" "$2" "$time" "$cache") >"$log" 2>&1 || status=$?
		if [ "$status" = 0 ] && grep -q '^fuzz: elapsed: ' "$log"; then
			# On a machine that is busy with other things a short time may be over before all seeds are through: no failure, but said.
			execs=$(grep -oE 'execs: [0-9]+' "$log" | tail -n 1) || true
			printf 'ok    %-28s %-46s %s\n' "$2" "$1" "${execs:-seeds only, and not all of them}"
			return 0
		fi
		grep -q 'terminated by unexpected signal; no crash will be recorded' "$log" || break
		[ "$attempt" = second ] || printf 'again %-28s %-46s killed from outside\n' "$2" "$1"
	done
	printf 'FAIL  %-28s %-46s exit code %s\n' "$2" "$1" "$status"
	cat "$log"
	touch "$work/failed"
}

# keep FOLDER NAME: the fuzzer says of each input that it starts with how much more of the code it has reached, and not which one it is:
# first seeds, then what is in the cache, in the order of the names.
keep() {
	local log=$work/${1//\//_}.$2.log from to=$1/testdata/fuzz/$2 chosen=$work/${1//\//_}.$2 file bits n=0
	from=$fuzz_cache/$(cat "$work/${1//\//_}.package")/$2
	mkdir -p "$chosen/$2"
	[ ! -d "$from" ] || find "$from" -type f -size "-$((max_size + 1))c" -exec cp {} "$chosen/$2" \;
	# Those that are kept are seeds already.
	for file in "$to"/*; do rm -f "$chosen/$2/${file##*/}"; done
	LC_ALL=C ls "$chosen/$2" >"$chosen/names"
	if ! (GODEBUG=fuzzdebug=1 run "$1" "$2" 20s "$chosen") >"$log" 2>&1; then
		cat "$log"
		touch "$work/failed"
		return 0
	fi
	while read -r bits file; do
		[ "$bits" != 0 ] || continue
		if grep -qiaE 'passw|secret|token|bearer|api[_-]?key|credential|private key' "$chosen/$2/$file"; then continue; fi
		[ "$(find "$to" -type f 2>/dev/null | wc -l)" -lt "$max_kept" ] || break
		mkdir -p "$to"
		cp "$chosen/$2/$file" "$to/$file"
		n=$((n + 1))
	done < <(grep -oE 'processed an initial input, id: .*, new bits: [0-9]+' "$log" | sed 's/.*: //' | tail -n "$(wc -l <"$chosen/names")" | paste -d ' ' - "$chosen/names")
	printf 'kept  %-28s %-46s %d more\n' "$2" "$1" "$n"
}

found=$(targets | grep -E -- "${1:-.}") || die "no fuzz target matches ${1:-}"
build_start=$SECONDS
# shellcheck disable=SC2046 # folder names have no spaces
build $(cut -d ' ' -f 1 <<<"$found" | uniq)
say "$(wc -l <<<"$found") targets, built in $((SECONDS - build_start)) s; $time each, $at_once at a time"
while read -r folder name; do
	while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do wait -n || true; done
	if [ -n "$keep" ]; then keep "$folder" "$name" & else fuzz "$folder" "$name" & fi
done <<<"$found"
wait
[ ! -e "$work/failed" ] || die "a target has failed; its input is in testdata/fuzz of its package"
