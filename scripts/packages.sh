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

need curl curl
need debootstrap debootstrap
need docker-registry docker-registry
need iptables iptables
need node nodejs
need npm npm
need shellcheck shellcheck
# The race detector needs a C compiler, and its headers: a machine can have the one without the others.
if ! printf '#include <stdlib.h>\n' | gcc -fsyntax-only -xc - 2>/dev/null; then missing+=(gcc libc6-dev); fi
# Only a static busybox runs in an image of its own.
if ! have busybox || ldd "$(command -v busybox)" >/dev/null 2>&1; then missing+=(busybox-static); fi

[ "${#missing[@]}" = 0 ] || install_packages "${missing[@]}"
