#!/usr/bin/env bash
# Makes the archives of a release: dist/opensandbox-VERSION-linux-{amd64,arm64}.tar.gz and dist/SHA256SUMS. The same sources and version give
# the same bytes, whoever makes them and wherever: paths, times and owners are not those of this machine.
#
# usage: VERSION=… dist.sh [DIRECTORY [ARCHITECTURE…]]     (dist amd64 arm64)
#
# SOURCE_DATE_EPOCH is the time of all files, in seconds since 1970; that of the last commit if it is not set.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

VERSION=${VERSION:?}
OUT=$(mkdir -p "${1:-dist}" && cd "${1:-dist}" && pwd)
shift $(($# > 0))
[ $# -gt 0 ] || set -- amd64 arm64
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

# add_pages DIRECTORY: the documentation, with everything that its pages link to.
add_pages() {
	mkdir -p "$1/docs/adr" "$1/docs/reports" "$1/deployments"
	cp docs/*.md "$1/docs"
	cp docs/adr/*.md "$1/docs/adr"
	cp docs/reports/* "$1/docs/reports"
	cp -r deployments/grafana deployments/otel-collector deployments/prometheus deployments/single deployments/systemd "$1/deployments"
	cp ARCHITECTURE.md CONTRIBUTING.md LICENSE README.md docker-compose.yml "$1"
}

# pack NAME: the archive of a directory below $work. The highest compression would take four times as long for a hundredth less.
pack() {
	tar -C "$work" --sort=name --format=ustar --mtime="@$EPOCH" --owner=0 --group=0 --numeric-owner --mode='u+rwX,go+rX,go-w' -cf - "$1" |
		gzip -n >"$OUT/$1.tar.gz"
}

for arch; do
	name=opensandbox-$VERSION-linux-$arch
	mkdir -p "$work/$name/bin"
	progress "Building for linux/$arch" build_for "$arch" "$work/$name/bin"
	add_pages "$work/$name"
	pack "$name"
done
cd "$OUT"
sha256sum "opensandbox-$VERSION"-linux-*.tar.gz >SHA256SUMS
say "Archives and checksums are in $OUT"
