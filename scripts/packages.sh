#!/usr/bin/env bash
# Installs the Debian packages that the tests need and that are missing. Elsewhere it says what to install.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# Programs of the system administrator, debootstrap and iptables among them, may be outside an ordinary PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
missing=()

# need PROGRAM PACKAGE
need() { have "$1" || missing+=("$2"); }

need chromedriver chromium-driver
need chromium chromium
need curl curl
need debootstrap debootstrap
need docker-compose docker-compose
need docker-registry docker-registry
need haproxy haproxy
need htpasswd apache2-utils
need systemd-analyze systemd
need iptables iptables
need node nodejs
need npm npm
need prometheus prometheus
# For the daemon as it is built for another processor.
[ "$(uname -m)" = aarch64 ] || need qemu-aarch64-static qemu-user-static
need redis-server redis-server
need shellcheck shellcheck
# The race detector needs a C compiler, and its headers: a machine can have the one without the others.
if ! printf '#include <stdlib.h>\n' | gcc -fsyntax-only -xc - 2>/dev/null; then missing+=(gcc libc6-dev); fi
# Only a static busybox runs in an image of its own.
if ! have busybox || ldd "$(command -v busybox)" >/dev/null 2>&1; then missing+=(busybox-static); fi

# Packages that bring a service start it when they are installed, unless this file of Debian's policy says no. Tests start their own.
POLICY=/usr/sbin/policy-rc.d
SERVICES='redis-server prometheus haproxy'

quiet_services() {
	local service
	if [ ! -e "$POLICY" ] && is_root; then
		printf '%s\n' '#!/bin/sh' 'exit 101' >"$POLICY"
		chmod 755 "$POLICY"
		trap 'rm -f "$POLICY"' EXIT
	fi
	install_packages "$@"
	# Nor with the machine, if they are new.
	if [ -d /run/systemd/system ]; then
		for service in $SERVICES; do
			case " $* " in *" $service "*) systemctl disable --now "$service" || true ;; esac
		done
	fi
}

[ "${#missing[@]}" = 0 ] || quiet_services "${missing[@]}"
