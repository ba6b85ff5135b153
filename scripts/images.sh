#!/usr/bin/env bash
# Makes sandbox images without a registry, when they are missing or were made by another version of this script.
#
# usage: images.sh NAME…
#   busybox         opensandbox/busybox:dev: Debian's busybox-static with a link for each applet
#   debian-python   opensandbox/debian-python:dev: Debian 12 with bash, coreutils, python3 and procps (needs root)
#   debian-jupyter  opensandbox/debian-jupyter:dev: debian-python with a Jupyter server as the entry point, kernels for Python and bash
#   scratch-static  opensandbox/scratch-static:dev: one static program as the entry point, no shell, no files
#   host-shell      opensandbox/host-shell:dev: shell and tools of this very machine, for the quick start without any registry
#
# debian-python, and what debian-jupyter adds to it, are kept as tar files in the cache, so that another engine only has to import them.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# Raise it when the recipe of debian-python changes: making it takes minutes, so it does not follow every edit of this file.
DEBIAN_VERSION=bookworm-1
LABEL=org.opensandbox.test-image
IMAGES=$ROOT/scripts/images
WORK=$(mktemp -d "${TMPDIR:-/tmp}/opensandbox-images.XXXXXX")
trap 'rm -rf "$WORK"' EXIT

# present IMAGE VERSION: the engine has that image with that content.
present() { [ "$(docker image inspect -f "{{index .Config.Labels \"$LABEL\"}}" "$1" 2>/dev/null)" = "$2" ]; }

# import_image TAR IMAGE VERSION [CHANGE…]: makes the image and removes the one that had its name, unless a container needs it.
import_image() {
	local tar=$1 image=$2 version=$3 old change
	local -a changes
	shift 3
	changes=(-c "LABEL $LABEL=$version" -c "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	for change in "$@"; do changes+=(-c "$change"); done
	old=$(docker image inspect -f '{{.Id}}' "$image" 2>/dev/null || true)
	docker import "${changes[@]}" "$tar" "$image" >/dev/null
	[ -z "$old" ] || docker rmi "$old" >/dev/null 2>&1 || true
}

# accounts DIR writes users, groups and a /tmp for everyone.
accounts() {
	mkdir -p "$1/etc" "$1/tmp" "$1/root"
	chmod 1777 "$1/tmp"
	printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'nobody:x:65534:65534:nobody:/:/bin/sh' >"$1/etc/passwd"
	printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' >"$1/etc/group"
}

pack() { tar --numeric-owner --owner=0 --group=0 -C "$1" -cf "$2" .; }

make_busybox() {
	local image=opensandbox/busybox:dev program version applet root=$WORK/busybox
	program=$(type -P busybox || true)
	# Only a static one runs without its libraries.
	if [ -z "$program" ] || ldd "$program" >/dev/null 2>&1; then
		install_packages busybox-static
		program=/bin/busybox
	fi
	version=$(digest "$0" "$program")
	present "$image" "$version" && return
	accounts "$root"
	mkdir -p "$root/bin"
	cp "$program" "$root/bin/busybox"
	for applet in $("$program" --list); do
		[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
	done
	pack "$root" "$WORK/busybox.tar"
	import_image "$WORK/busybox.tar" "$image" "$version"
	say "Image $image is ready."
}

make_debian_python() {
	local image=opensandbox/debian-python:dev version tar root=$WORK/debian
	version=$DEBIAN_VERSION
	present "$image" "$version" && return
	tar=$CACHE/images/debian-python-$version-$(dpkg --print-architecture).tar
	if [ ! -f "$tar" ]; then
		is_root || die "building $image needs root"
		have debootstrap || install_packages debootstrap
		progress "Building $image with debootstrap (1-2 minutes)" \
			debootstrap --variant=minbase --include=python3,procps bookworm "$root"
		rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
		mkdir -p "$CACHE/images"
		tar --numeric-owner -C "$root" -cf "$tar.part" --exclude './dev/*' .
		mv "$tar.part" "$tar"
	fi
	progress "Importing $image" import_image "$tar" "$image" "$version"
}

# kernel DIR LANGUAGE ARGUMENT… describes a kernel to Jupyter, named by its language as in the code interpreter image of OpenSandbox.
kernel() {
	local dir=$1/usr/local/share/jupyter/kernels/$2 language=$2 argv
	shift 2
	mkdir -p "$dir"
	argv=$(printf '"%s",' "$@")
	printf '{"argv":[%s"{connection_file}"],"display_name":"%s","language":"%s"}\n' "$argv" "$language" "$language" >"$dir/kernel.json"
}

# jupyter_files DIR collects what debian-jupyter adds: wheels for the Python of the image, kernels, and the entry point.
jupyter_files() {
	local arch
	arch=$(uname -m)
	python3 -m pip install --quiet --no-input --no-deps --no-compile --only-binary=:all: --python-version 3.11 --implementation cp \
		--abi cp311 --abi abi3 --abi none --platform "manylinux_2_28_$arch" --platform "manylinux2014_$arch" --platform any \
		--target "$1/usr/local/lib/python3.11/dist-packages" --requirement "$IMAGES/jupyter.txt"
	kernel "$1" python python3 -m ipykernel_launcher -f
	kernel "$1" bash python3 -m bash_kernel -f
	install -D -m 755 "$IMAGES/code-interpreter.sh" "$1/opt/code-interpreter/code-interpreter.sh"
	pack "$1" "$2"
}

make_debian_jupyter() {
	local image=opensandbox/debian-jupyter:dev version tar
	make_debian_python
	version=$DEBIAN_VERSION-$(digest "$IMAGES"/*)
	present "$image" "$version" && return
	tar=$CACHE/images/jupyter-$version-$(dpkg --print-architecture).tar
	mkdir -p "$CACHE/images" "$WORK/jupyter" "$WORK/context"
	if [ ! -f "$tar" ]; then
		progress "Collecting Jupyter for $image" jupyter_files "$WORK/jupyter" "$tar.part"
		mv "$tar.part" "$tar"
	fi
	ln "$tar" "$WORK/context/jupyter.tar" 2>/dev/null || cp "$tar" "$WORK/context/jupyter.tar"
	progress "Building $image" docker build --quiet --label "$LABEL=$version" -t "$image" -f "$IMAGES/jupyter.Dockerfile" "$WORK/context"
}

make_scratch_static() {
	local image=opensandbox/scratch-static:dev version root=$WORK/static
	version=$(digest "$0" "$ROOT/tests/cmd/static-app/main.go")
	present "$image" "$version" && return
	mkdir -p "$root"
	progress "Building $image" env CGO_ENABLED=0 GOOS=linux \
		go build -C "$ROOT/tests" -buildvcs=false -trimpath -ldflags '-s -w' -o "$root/app" ./cmd/static-app
	pack "$root" "$WORK/static.tar"
	import_image "$WORK/static.tar" "$image" "$version" 'ENTRYPOINT ["/app"]'
}

# libraries PROGRAM: the shared libraries that it loads, and its loader.
libraries() { ldd "$1" 2>/dev/null | grep -o '/[^ )]*' || true; }

make_host_shell() {
	local image=opensandbox/host-shell:dev version name program file root=$WORK/host
	local -a programs=()
	for name in sh cat cp date echo env head id ls mkdir mv rm sed sleep sort tail touch uname wc; do
		program=$(type -P "$name") && programs+=("$program")
	done
	version=$(digest "$0" "${programs[@]}")
	present "$image" "$version" && return
	accounts "$root"
	mkdir -p "$root/bin"
	for program in "${programs[@]}"; do
		cp -L "$program" "$root/bin/$(basename "$program")"
		for file in $(libraries "$program"); do
			[ -e "$root$file" ] && continue
			mkdir -p "$root$(dirname "$file")"
			cp -L "$file" "$root$file"
		done
	done
	pack "$root" "$WORK/host.tar"
	import_image "$WORK/host.tar" "$image" "$version"
	say "Image $image is ready."
}

for name in "$@"; do
	case "$name" in
	busybox) make_busybox ;;
	debian-python) make_debian_python ;;
	debian-jupyter) make_debian_jupyter ;;
	scratch-static) make_scratch_static ;;
	host-shell) make_host_shell ;;
	*) die "unknown image $name" ;;
	esac
done
