#!/usr/bin/env bash
# Makes sure that a Docker engine answers. An engine that is there is used and never changed; one is installed (Debian's
# docker.io) only where there is none at all. One that this script installed is started again when it is down.
#
# usage: docker-engine.sh [--for-tests]
#   --for-tests   as root, without systemd: also start an installed engine that is down, whoever installed it
#
# SETUP_ROOT (for the tests of this script) is put in front of every absolute path that it looks at.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

SETUP_ROOT=${SETUP_ROOT:-}
MARK=$SETUP_ROOT/var/lib/opensandbox-setup/engine-installed
LOG=$SETUP_ROOT/var/log/opensandbox-dockerd.log
SOCKET=$SETUP_ROOT/var/run/docker.sock
# The engine's own folder may be missing in the PATH of an ordinary user.
PATH=$PATH:$SETUP_ROOT/usr/local/sbin:$SETUP_ROOT/usr/sbin:$SETUP_ROOT/sbin
START_SECONDS=60

for_tests=
case "${1:-}" in
--for-tests) for_tests=yes ;;
'') ;;
*) die "unknown argument $1" ;;
esac

# ask: fills version with the engine's version, or answer with the reason why there is none.
ask() {
	version=
	answer=
	have docker || return 1
	if answer=$(within 20 docker version --format '{{.Server.Version}}' 2>&1); then
		version=$(printf '%s\n' "$answer" | tail -n 1)
		return 0
	fi
	return 1
}

ready() { say "Docker engine $version answers."; }

systemd() { [ -d "$SETUP_ROOT/run/systemd/system" ]; }

# ours: this script installed the engine, and the package is still that one.
ours() { [ -f "$MARK" ] && dpkg -s docker.io >/dev/null 2>&1; }

# elsewhere: the client is told to use an engine that this script cannot know.
elsewhere() {
	[ -n "${DOCKER_HOST:-}" ] && return 0
	have docker || return 1
	case "$(docker context show 2>/dev/null || true)" in
	'' | default) return 1 ;;
	*) return 0 ;;
	esac
}

# alive NAME: a process of that name runs. One that ended but has a parent that never asks (state Z) does not.
alive() {
	local file
	for file in "$SETUP_ROOT"/proc/[0-9]*/comm; do
		if grep -qsx "$1" "$file" && ! grep -qs '^State:.*Z' "${file%comm}status"; then return 0; fi
	done
	return 1
}

# clear_stale removes what a machine that was switched off leaves behind, and what makes dockerd refuse to start or wait in vain.
clear_stale() {
	alive dockerd || rm -f "$SETUP_ROOT/var/run/docker.pid"
	alive containerd || rm -f "$SETUP_ROOT/var/run/docker/containerd/containerd.pid" "$SETUP_ROOT/run/containerd/containerd.sock"
}

wait_until_ready() {
	local start=$SECONDS
	printf 'Waiting for the Docker engine'
	until ask; do
		# Process 0 stands for an engine that somebody else starts (systemd, or a dockerd that is on its way already).
		if [ $((SECONDS - start)) -ge "$START_SECONDS" ] || { [ "$engine" != 0 ] && ! kill -0 "$engine" 2>/dev/null; }; then
			printf ' failed\n'
			tail -n 20 "$LOG" >&2 2>/dev/null || true
			die "the Docker engine ended or did not answer within $START_SECONDS s: $answer"
		fi
		printf ' .'
		sleep 1
	done
	printf ' done (%d s)\n' $((SECONDS - start))
}

start_engine() {
	engine=0
	is_root || die "only root can start the Docker engine; run: sudo $0"
	if systemd; then
		systemctl start docker
	elif ! alive dockerd; then
		clear_stale
		mkdir -p "$(dirname "$LOG")"
		say "Starting dockerd (log: $LOG)"
		setsid dockerd >>"$LOG" 2>&1 </dev/null &
		engine=$!
	fi
	wait_until_ready
	ready
}

advise_denied() {
	warn "A Docker engine is there, but this user may not talk to it ($SOCKET). One of these helps:"
	warn "  sudo usermod -aG docker \"\$USER\"    then log in again"
	warn "  sudo make …                         for this one time"
	exit 1
}

advise_elsewhere() {
	warn "Docker is set up to use ${DOCKER_HOST:-the context $(docker context show 2>/dev/null)}, and that engine does not answer:"
	warn "  $answer"
	warn "Start it (Docker Desktop: open the app), or unset DOCKER_HOST, or choose another with: docker context use default"
	exit 1
}

advise_stopped() {
	warn "A Docker engine is installed but does not answer. It is left as it is. Start it with one of these, then try again:"
	warn "  sudo systemctl start docker"
	warn "  sudo service docker start"
	warn "The client says: $answer"
	exit 1
}

install_engine() {
	if ! have apt-get; then
		die "no Docker engine found; install one (https://docs.docker.com/engine/install/), then try again"
	fi
	is_root || die "no Docker engine found; install one (sudo apt-get install -y docker.io), or run this as root to have it installed"
	say "No Docker engine found: installing Debian's."
	mkdir -p "$(dirname "$MARK")"
	say "The Docker engine (package docker.io) was installed by opensandbox's scripts/docker-engine.sh." >"$MARK"
	if ! install_packages docker.io iptables; then
		have dockerd || rm -f "$MARK"
		die "the Docker engine could not be installed"
	fi
	start_engine
}

main() {
	if ask; then ready; return; fi
	case "$answer" in
	*"ermission denied"*) advise_denied ;;
	esac
	if elsewhere; then advise_elsewhere; fi
	if have dockerd; then
		have docker || die "an engine (dockerd) is installed, but not the docker command; install it (Debian: docker.io or docker-ce-cli)"
		if ours; then start_engine; return; fi
		if [ -n "$for_tests" ] && is_root && ! systemd; then
			say "A Docker engine is installed but down, and there is no systemd to ask: starting it for the tests."
			start_engine
			return
		fi
		advise_stopped
	fi
	# A socket without an engine beside it belongs to an engine outside (a container with the socket mounted).
	if [ -e "$SOCKET" ]; then advise_stopped; fi
	install_engine
}

main
