# shellcheck shell=bash
# Sourced by the other scripts: where things are, how they talk to the person in front of the screen.
# Works with bash 3.2 (macOS) and newer.

# shellcheck disable=SC2034 # used by the scripts that source this file
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Expensive things that outlive a clone: tools, images as tar files, client packages. Each has its version in its name.
# shellcheck disable=SC2034
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/opensandbox

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

# within SECONDS COMMAND…: runs it, ended when the time is over (where the system has timeout).
within() {
	if have timeout; then timeout "$@"; else shift && "$@"; fi
}

# progress TEXT COMMAND…: runs it with its output in a file, prints a dot each two seconds, and the end of the output if it fails.
progress() {
	local text=$1 log start pid status=0
	shift
	log=$(mktemp "${TMPDIR:-/tmp}/opensandbox.XXXXXX")
	start=$SECONDS
	printf '%s' "$text"
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	# A child in the background does not see Ctrl-C: end it by hand.
	trap 'kill "$pid" 2>/dev/null || true; rm -f "$log"; exit 130' INT TERM
	until ended "$pid"; do printf ' .'; done
	wait "$pid" || status=$?
	trap - INT TERM
	if [ "$status" = 0 ]; then
		printf ' done (%d s)\n' $((SECONDS - start))
	else
		printf ' failed (%d s)\n' $((SECONDS - start))
		tail -n 40 "$log" >&2
	fi
	rm -f "$log"
	return "$status"
}

# ended PID: true as soon as the process is over, false after two seconds.
ended() {
	local i
	for i in 1 2 3 4 5 6 7 8 9 10; do
		kill -0 "$1" 2>/dev/null || return 0
		[ "$i" = 10 ] || sleep 0.2
	done
	return 1
}

# pull IMAGE: 20 s for the first sign of its layers, then five minutes for the rest. Run it in a process of its own (progress).
pull() {
	local log worker i
	log=$(mktemp "${TMPDIR:-/tmp}/opensandbox.XXXXXX")
	docker pull "$1" >"$log" 2>&1 &
	worker=$!
	# shellcheck disable=SC2064 # both are known now
	trap "kill $worker 2>/dev/null || true; rm -f '$log'" EXIT
	for ((i = 0; i < 300; i++)); do
		kill -0 "$worker" 2>/dev/null || break
		if [ "$i" -ge 20 ] && ! grep -q 'Pulling fs layer' "$log"; then return 1; fi
		sleep 1
	done
	if kill -0 "$worker" 2>/dev/null; then return 1; fi
	wait "$worker"
}

# digest FILE…: a short name for their content.
digest() {
	if have sha256sum; then cat "$@" | sha256sum | cut -c1-16; else cat "$@" | shasum -a 256 | cut -c1-16; fi
}

# install_packages NAME…: Debian packages, as root.
install_packages() {
	local quiet='DEBIAN_FRONTEND=noninteractive'
	have apt-get || die "needs the packages $*: install them with the package manager of this system"
	is_root || die "needs packages that are not installed; run: sudo apt-get install -y $*"
	# A source that cannot be reached must not stop the others.
	progress "Reading the package lists" apt-get update -q || true
	progress "Installing $*" env "$quiet" apt-get install -y -q --no-install-recommends "$@"
}

# secret NAME VALUE: lists a secret of a test, so that the output of its suite is searched for it (libs/secrettest).
secret() {
	[ -z "${OPENSANDBOX_TEST_SECRETS:-}" ] || printf '%s\t%s\n' "$1" "$2" >>"$OPENSANDBOX_TEST_SECRETS"
}

# go_test ARGUMENT…: go test that also fails if no test ran (packages without test files, or a filter that matches nothing). Within a suite
# whose output is searched for secrets, all that the tests can tell is kept for that.
go_test() {
	local log status=0 first=()
	# go wants this one before all others.
	if [ "$1" = -C ]; then
		first=(-C "$2")
		shift 2
	fi
	[ -z "${OPENSANDBOX_TEST_OUTPUT:-}" ] || first+=(-exec "'$ROOT/scripts/test-binary.sh'")
	log=$(mktemp "${TMPDIR:-/tmp}/opensandbox.XXXXXX")
	go test ${first[@]+"${first[@]}"} "$@" 2>&1 | tee "$log" || status=$?
	# Not grep -q: it ends at the first match, and pipefail would then see the writer before it fail.
	if [ "$status" = 0 ] && ! grep '^ok ' "$log" | grep -v 'no tests to run' >/dev/null; then
		warn "error: no test ran: go test $*"
		status=1
	fi
	rm -f "$log"
	return "$status"
}
