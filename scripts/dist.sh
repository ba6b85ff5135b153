#!/usr/bin/env bash
# Makes the archives of a release: dist/opensandbox-VERSION-linux-{amd64,arm64}.tar.gz and dist/SHA256SUMS. The same sources and version give
# the same bytes, whoever makes them and wherever: paths, times and owners are not those of this machine.
#
# usage: VERSION=… dist.sh [DIRECTORY]     (dist)
#
# SOURCE_DATE_EPOCH is the time of all files, in seconds since 1970; that of the last commit if it is not set.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

VERSION=${VERSION:?}
OUT=$(mkdir -p "${1:-dist}" && cd "${1:-dist}" && pwd)
EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
EMBEDDED=$ROOT/services/runtime-agent/internal/delivery/embedded/execd
PROGRAMS='allinone/cmd/opensandbox-server api/cmd/opensandbox-api scheduler/cmd/opensandbox-scheduler runtime-agent/cmd/opensandbox-agent ingress-router/cmd/opensandbox-router'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# build_for ARCH DIRECTORY: the programs, with the daemon of that architecture inside. The tree is not touched: an overlay puts the daemon there.
build_for() {
	local program
	export CGO_ENABLED=0 GOOS=linux GOARCH=$1
	go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o "$2/opensandbox-execd" ./services/execd/cmd/opensandbox-execd
	printf '{"Replace":{"%s":"%s"}}\n' "$EMBEDDED" "$2/opensandbox-execd" >"$work/overlay-$1.json"
	for program in $PROGRAMS; do
		go build -trimpath -buildvcs=false -tags embed_execd -overlay "$work/overlay-$1.json" -ldflags "-s -w -X main.version=$VERSION" \
			-o "$2/${program##*/}" "./services/$program"
	done
}

# pack NAME: the archive of a directory below $work.
pack() {
	tar -C "$work" --sort=name --format=ustar --mtime="@$EPOCH" --owner=0 --group=0 --numeric-owner --mode='u+rwX,go+rX,go-w' -cf - "$1" |
		gzip -9n >"$OUT/$1.tar.gz"
}

for arch in amd64 arm64; do
	name=opensandbox-$VERSION-linux-$arch
	mkdir -p "$work/$name/bin" "$work/$name/docs" "$work/$name/deployments"
	progress "Building for linux/$arch" build_for "$arch" "$work/$name/bin"
	cp docs/*.md "$work/$name/docs"
	cp -r deployments/systemd deployments/single "$work/$name/deployments"
	cp LICENSE README.md "$work/$name"
	pack "$name"
done
cd "$OUT"
sha256sum "opensandbox-$VERSION"-linux-*.tar.gz >SHA256SUMS
say "Archives and checksums are in $OUT"
