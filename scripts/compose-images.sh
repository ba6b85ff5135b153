#!/usr/bin/env bash
# Makes the images that docker-compose.yml runs.
#
# usage: compose-images.sh NAME…
#   rootfs        bin/rootfs: what all images of services have beside their program
#   services      builds the programs and from them opensandbox/{api,scheduler,router,agent}:$OPENSANDBOX_TAG (default dev)
#   server        opensandbox/server:$OPENSANDBOX_TAG from the program and the root file system that bin/ has
#   third-party   opensandbox/third-party:dev: Debian 12 with its redis-server, haproxy and prometheus, in place of the public images of
#                 the three where no registry can be reached (needs root and debootstrap)
#   otlp-sink     opensandbox/otlp-sink:dev: what stands for an OpenTelemetry collector in tests
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

TAG=${OPENSANDBOX_TAG:-dev}
SERVICES='api scheduler router agent'
# Raise it when the recipe of third-party changes.
THIRD_PARTY_VERSION=bookworm-1
LABEL=org.opensandbox.test-image
ROOTFS=bin/rootfs

# present IMAGE VERSION: the engine has that image with that content.
present() { [ "$(docker image inspect -f "{{index .Config.Labels \"$LABEL\"}}" "$1" 2>/dev/null)" = "$2" ]; }

# replaced IMAGE COMMAND…: makes the image and removes the one that had its name, unless a container needs it.
replaced() {
	local image=$1 old
	shift
	old=$(docker image inspect -f '{{.Id}}' "$image" 2>/dev/null || true)
	"$@"
	[ -z "$old" ] || [ "$old" = "$(docker image inspect -f '{{.Id}}' "$image")" ] || docker rmi "$old" >/dev/null 2>&1 || true
}

make_rootfs() {
	local bundle
	for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem ''; do
		[ -s "$bundle" ] && break
	done
	[ -n "$bundle" ] || die "this machine has no bundle of CA certificates; install the package ca-certificates"
	mkdir -p "$ROOTFS/etc/ssl/certs" "$ROOTFS/tmp"
	chmod 1777 "$ROOTFS/tmp"
	cat "$bundle" >"$ROOTFS/etc/ssl/certs/ca-certificates.crt"
	printf '%s\n' 'root:x:0:0:root:/tmp:/' 'opensandbox:x:65532:65532:opensandbox:/tmp:/' >"$ROOTFS/etc/passwd"
	printf '%s\n' 'root:x:0:' 'opensandbox:x:65532:' >"$ROOTFS/etc/group"
}

build_service() {
	local user=65532:65532
	# It drives the engine through a socket that belongs to root.
	[ "$1" != agent ] || user=0:0
	docker build -f deployments/Dockerfile --build-arg "SERVICE=$1" --build-arg "USER_ID=$user" -t "opensandbox/$1:$TAG" .
}

make_services() {
	local service
	progress "Building the programs (minutes the first time)" make --no-print-directory build
	make_rootfs
	# A client without its BuildKit plugin refuses to build unless it is told to do without.
	docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
	for service in $SERVICES; do
		replaced "opensandbox/$service:$TAG" progress "Building the image opensandbox/$service:$TAG" build_service "$service"
	done
}

make_server() {
	[ -x bin/opensandbox-server ] || die "bin/opensandbox-server is missing: make build"
	make_rootfs
	docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
	replaced "opensandbox/server:$TAG" progress "Building the image opensandbox/server:$TAG" \
		docker build -f services/allinone/Dockerfile -t "opensandbox/server:$TAG" .
}

third_party_tree() {
	debootstrap --variant=minbase --include=redis-server,redis-tools,haproxy,prometheus bookworm "$1"
	rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/*
	# Where the public images keep their data, for the users that they run as.
	install -d -m 700 "$1/data" "$1/prometheus"
	chroot "$1" chown redis:redis /data
	chroot "$1" chown nobody:nogroup /prometheus
}

make_third_party() {
	local image=opensandbox/third-party:dev tar work
	present "$image" "$THIRD_PARTY_VERSION" && return
	tar=$CACHE/images/third-party-$THIRD_PARTY_VERSION-$(dpkg --print-architecture).tar
	if [ ! -f "$tar" ]; then
		is_root || die "building $image needs root"
		have debootstrap || install_packages debootstrap
		work=$(mktemp -d "${TMPDIR:-/tmp}/opensandbox-images.XXXXXX")
		# shellcheck disable=SC2064 # the folder is known now
		trap "rm -rf '$work'" EXIT
		progress "Building $image with debootstrap (1-2 minutes)" third_party_tree "$work"
		mkdir -p "$CACHE/images"
		tar --numeric-owner -C "$work" -cf "$tar.part" --exclude './dev/*' .
		mv "$tar.part" "$tar"
	fi
	progress "Importing $image" docker import -c "LABEL $LABEL=$THIRD_PARTY_VERSION" \
		-c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$tar" "$image"
}

make_otlp_sink() {
	local image=opensandbox/otlp-sink:dev version work
	version=$(digest scripts/compose-images.sh tests/cmd/otlp-sink/main.go tests/otlpsink/otlpsink.go)
	present "$image" "$version" && return
	work=$(mktemp -d "${TMPDIR:-/tmp}/opensandbox-images.XXXXXX")
	# shellcheck disable=SC2064 # the folder is known now
	trap "rm -rf '$work'" EXIT
	progress "Building $image" env CGO_ENABLED=0 GOOS=linux \
		go build -C tests -buildvcs=false -trimpath -ldflags '-s -w' -o "$work/otlp-sink" ./cmd/otlp-sink
	tar -C "$work" -cf "$work.tar" otlp-sink
	replaced "$image" docker import -c "LABEL $LABEL=$version" -c 'ENTRYPOINT ["/otlp-sink"]' "$work.tar" "$image" >/dev/null
	rm -rf "$work" "$work.tar"
}

for name in "$@"; do
	case "$name" in
	rootfs) make_rootfs ;;
	services) make_services ;;
	server) make_server ;;
	third-party) make_third_party ;;
	otlp-sink) make_otlp_sink ;;
	*) die "unknown image $name" ;;
	esac
done
