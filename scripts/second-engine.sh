#!/usr/bin/env bash
# A second Docker engine on this machine, as if it were another host: in a network namespace with an address, storage and an id of its
# own. For tests; needs root, an installed engine (dockerd) and iproute2.
#
# usage: second-engine.sh start   starts it if it is down, gives it the test images that the first engine has, prints what env prints
#        second-engine.sh stop    ends it and removes all that it has
#        second-engine.sh env     its DOCKER_HOST and the address of its published ports, as lines for a shell
#
# It listens without a password, reachable from this machine alone: over a pair of interfaces that leads nowhere else.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

NAME=${SECOND_ENGINE_NAME:-osb-engine2}
# Three numbers of a network that is free; .1 is this machine, .2 the engine.
SUBNET=${SECOND_ENGINE_SUBNET:-10.213.98}
DIR=/var/lib/opensandbox-$NAME
RUN=/run/opensandbox-$NAME
LOG=/var/log/opensandbox-$NAME.log
HERE=$NAME-a
THERE=$NAME-b
ADDRESS=$SUBNET.2
ENGINE=tcp://$ADDRESS:2375
IMAGES='opensandbox/busybox:dev opensandbox/debian-python:dev'
START_SECONDS=60
STOP_SECONDS=30
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

print_env() {
	printf 'export SECOND_ENGINE_DOCKER_HOST=%q SECOND_ENGINE_HOST=%q\n' "$ENGINE" "$ADDRESS"
}

# running: fills pid if our dockerd runs; a number alone could be another process by now.
running() {
	pid=$(cat "$RUN/docker.pid" 2>/dev/null || true)
	[ -n "$pid" ] && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "--data-root $DIR"
}

answers() { within 5 docker -H "$ENGINE" version >/dev/null 2>&1; }

network() {
	ip netns list | grep -qw "$NAME" || ip netns add "$NAME"
	if ! ip link show "$HERE" >/dev/null 2>&1; then
		ip link add "$HERE" type veth peer name "$THERE" netns "$NAME"
		ip address add "$SUBNET.1/30" dev "$HERE"
		ip link set "$HERE" up
		ip -n "$NAME" address add "$ADDRESS/30" dev "$THERE"
		ip -n "$NAME" link set "$THERE" up
		ip -n "$NAME" link set lo up
		# Answers find their way back; there is no way out into the world.
		ip -n "$NAME" route add default via "$SUBNET.1"
	fi
}

# configure: engines before version 25 keep their id in /etc/docker, which the first engine uses.
configure() {
	local version
	mkdir -p "$DIR" "$RUN"
	version=$(dockerd --version | sed -n 's/^Docker version \([0-9]*\).*/\1/p')
	if [ "${version:-99}" -lt 25 ]; then
		printf '{"deprecated-key-path": "%s"}\n' "$DIR/key.json" >"$DIR/daemon.json"
	else
		printf '{}\n' >"$DIR/daemon.json"
	fi
}

launch() {
	local start=$SECONDS launched
	# Not "ip netns exec": that mounts /sys anew, and the engine would find no cgroups. The containerd that another engine may run is
	# shared, so the namespaces in it are not.
	setsid nsenter --net="/run/netns/$NAME" dockerd --config-file "$DIR/daemon.json" --data-root "$DIR" --exec-root "$RUN/exec" \
		--pidfile "$RUN/docker.pid" --host "unix://$RUN/docker.sock" --host "$ENGINE" --tls=false \
		--containerd-namespace "$NAME" --containerd-plugins-namespace "$NAME-plugins" >>"$LOG" 2>&1 </dev/null &
	launched=$!
	printf 'Starting the second engine'
	until answers; do
		if [ $((SECONDS - start)) -ge "$START_SECONDS" ] || ! kill -0 "$launched" 2>/dev/null; then
			printf ' failed\n'
			tail -n 20 "$LOG" >&2
			die "the second engine ended or did not answer within $START_SECONDS s"
		fi
		printf ' .'
		sleep 1
	done
	printf ' done (%d s)\n' $((SECONDS - start))
}

give_image() { docker save "$1" | docker -H "$ENGINE" load; }

# image_id IMAGE [-H ADDRESS]: what tells versions of an image apart.
image_id() { docker "${@:2}" image inspect -f '{{.Id}}' "$1" 2>/dev/null || true; }

give_images() {
	local image
	for image in $IMAGES; do
		[ -n "$(image_id "$image")" ] || continue
		[ "$(image_id "$image")" = "$(image_id "$image" -H "$ENGINE")" ] || progress "Giving it $image" give_image "$image"
	done
}

start() {
	is_root || die "only root can start a second engine"
	have dockerd || die "the engine (dockerd) is not installed"
	have ip || install_packages iproute2
	if ! { running && answers; }; then
		stop_engine
		network
		configure
		launch
	fi
	give_images
}

stop_engine() {
	local start=$SECONDS left
	if running; then
		# Containers first: the engine would leave those that ignore its signal to nobody.
		left=$(docker -H "$ENGINE" ps -aq 2>/dev/null || true)
		# shellcheck disable=SC2086 # ids have no spaces
		[ -z "$left" ] || within 60 docker -H "$ENGINE" rm -f $left >/dev/null || true
		kill -TERM "$pid"
		while running; do
			if [ $((SECONDS - start)) -ge "$STOP_SECONDS" ]; then
				kill -KILL "$pid"
				break
			fi
			sleep 0.2
		done
	fi
	rm -f "$RUN/docker.pid"
}

# unmount: layers and namespaces that an engine which was killed has left mounted.
unmount() {
	local mount
	awk '{print $2}' /proc/mounts | { grep -E "^($DIR|$RUN)(/|\$)" || true; } | sort -r | while read -r mount; do umount -l "$mount" 2>/dev/null || true; done
}

stop() {
	is_root || die "only root can stop the second engine"
	stop_engine
	ip link delete "$HERE" 2>/dev/null || true
	ip netns delete "$NAME" 2>/dev/null || true
	unmount
	rm -rf "$DIR" "$RUN" "$LOG"
}

case "${1:-}" in
start)
	start >&2
	print_env
	;;
stop) progress "Removing the second engine" stop ;;
env) print_env ;;
*) die "usage: second-engine.sh start|stop|env" ;;
esac
