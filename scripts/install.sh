#!/usr/bin/env bash
# Installs the single server that bin/ has: program, systemd unit, documentation, and a configuration where there is none yet.
#
# usage: DESTDIR=… PREFIX=… install.sh
#
# DESTDIR goes before every path, for packages; PREFIX (/usr/local) is where program and documentation go. Nothing is started.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

DESTDIR=${DESTDIR:-}
PREFIX=${PREFIX:-/usr/local}
UNITS=/lib/systemd/system
[ "$PREFIX" = /usr ] || UNITS=/etc/systemd/system
case $PREFIX in
/*) ;;
*) die "PREFIX must be an absolute path, and is $PREFIX" ;;
esac

install -d "$DESTDIR$PREFIX/bin" "$DESTDIR$UNITS" "$DESTDIR$PREFIX/share/doc/opensandbox"
# Under another name first: the program may be running.
install -m 755 bin/opensandbox-server "$DESTDIR$PREFIX/bin/.opensandbox-server.new"
mv -f "$DESTDIR$PREFIX/bin/.opensandbox-server.new" "$DESTDIR$PREFIX/bin/opensandbox-server"
unit=$(sed "s|@PREFIX@|$PREFIX|g" deployments/systemd/opensandbox-server.service)
printf '%s\n' "$unit" >"$DESTDIR$UNITS/opensandbox-server.service"
chmod 644 "$DESTDIR$UNITS/opensandbox-server.service"
install -m 644 docs/install.md docs/configuration.md LICENSE "$DESTDIR$PREFIX/share/doc/opensandbox"
install -m 600 deployments/systemd/config.toml "$DESTDIR$PREFIX/share/doc/opensandbox/config.toml.example"
chmod 644 "$DESTDIR$PREFIX/share/doc/opensandbox/config.toml.example"
install -d -m 750 "$DESTDIR/etc/opensandbox"
# What somebody has written is left alone.
[ -e "$DESTDIR/etc/opensandbox/config.toml" ] || install -m 600 deployments/systemd/config.toml "$DESTDIR/etc/opensandbox/config.toml"
say "Installed. Set an API key in /etc/opensandbox/config.toml, then: systemctl daemon-reload && systemctl enable --now opensandbox-server"
