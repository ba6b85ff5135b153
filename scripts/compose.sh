#!/usr/bin/env bash
# The platform of docker-compose.yml: builds what is missing, starts it, waits until it answers, says how to use it. Run again it brings
# what is running up to date, one replica after the other. Needs docker and its compose plugin, or Debian's docker-compose.
#
# usage: compose.sh up
#        compose.sh down [--volumes]   --volumes also removes the sandboxes and all data
#
# Settings are in .env, which the first "up" writes with new secrets; what is missing in it later is added, nothing is ever replaced.
# Variables of the environment go over it. OPENSANDBOX_ENV_FILE names another file, COMPOSE_PROJECT_NAME another project.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

ENV_FILE=${OPENSANDBOX_ENV_FILE:-$ROOT/.env}
START_SECONDS=120
ALL_PROFILES=agent2,observability
THIRD_PARTY=opensandbox/third-party:dev
# In the order in which a new version takes over: what serves last.
REPLICAS='scheduler-1 scheduler-2 api-1 api-2'

# setting NAME [DEFAULT]: from the environment, else from the file, as compose itself reads it.
setting() {
	local value=${!1:-}
	[ -n "$value" ] || value=$(sed -n "s/^$1=//p" "$ENV_FILE" 2>/dev/null | tail -n 1)
	printf '%s' "${value:-${2:-}}"
}

# keep NAME VALUE: adds a setting that is nowhere yet.
keep() {
	[ -n "$(setting "$1")" ] || printf '%s=%s\n' "$1" "$2" >>"$ENV_FILE"
}

random() { od -An -tx1 -N"$1" /dev/urandom | tr -d ' \n'; }

write_env() {
	if [ ! -e "$ENV_FILE" ]; then
		(umask 077 && printf '%s\n' '# Settings of docker-compose.yml, which has their meaning. The secrets were made by scripts/compose.sh.' >"$ENV_FILE")
	fi
	chmod 600 "$ENV_FILE"
	keep API_KEY "$(random 24)"
	keep SHARED_SECRET "$(random 32)"
	keep REDIS_PASSWORD "$(random 24)"
	# Two installations on one engine must differ: each removes what carries its own id and is not in its store.
	keep INSTALLATION_ID "osb-$(random 5)"
}

compose() {
	if docker compose version >/dev/null 2>&1; then
		docker compose --env-file "$ENV_FILE" -p "$project" "$@"
	else
		docker-compose --env-file "$ENV_FILE" -p "$project" "$@"
	fi
}

need_compose() {
	have docker || die "the docker command is missing"
	docker compose version >/dev/null 2>&1 || have docker-compose && return
	have apt-get || die "install the compose plugin of Docker (https://docs.docker.com/compose/install/)"
	install_packages docker-compose
}

profile() { case ",$profiles," in *",$1,"*) return 0 ;; *) return 1 ;; esac; }

present() { docker image inspect "$1" >/dev/null 2>&1; }

# third_party NAME: makes sure that the image of setting NAME is there: it is, or can be pulled, or is made on this machine.
third_party() {
	local image default
	default=$(sed -n "s/.*[$]{$1:-\([^}]*\)}.*/\1/p" docker-compose.yml)
	image=$(setting "$1" "$default")
	present "$image" && return
	if [ "$image" != "$THIRD_PARTY" ]; then
		if progress "Pulling $image" pull "$image" 2>/dev/null; then return; fi
		[ "$1" != OTEL_COLLECTOR_IMAGE ] || die "$image cannot be pulled; set $1 to an image of a collector that is there, or leave the profile out"
		[ "$image" = "$default" ] || die "$image cannot be pulled; $1 names it"
		say "The registry cannot be reached: using Debian's packages."
		keep "$1" "$THIRD_PARTY"
	fi
	scripts/compose-images.sh third-party
}

images() {
	third_party REDIS_IMAGE
	third_party HAPROXY_IMAGE
	if profile observability; then
		third_party PROMETHEUS_IMAGE
		third_party OTEL_COLLECTOR_IMAGE
	fi
	scripts/compose-images.sh services
}

# container SERVICE: its id, if it has one.
container() {
	docker ps -q --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1" | head -n 1
}

# answers SERVICE: it does its work.
answers() {
	local id
	id=$(container "$1")
	[ -n "$id" ] || return 1
	case "$1" in
	redis) [ "$(docker inspect -f '{{.State.Health.Status}}' "$id")" = healthy ] ;;
	haproxy) http_ok "$host" "$port" /health ;;
	prometheus) http_ok 127.0.0.1 "$(setting PROMETHEUS_PORT 9095)" /-/ready ;;
	otel-collector) [ "$(docker inspect -f '{{.State.Running}}' "$id")" = true ] ;;
	*) docker exec "$id" /opensandbox --health >/dev/null 2>&1 ;;
	esac
}

# http_ok HOST PORT PATH: the answer to a GET has status 200.
http_ok() {
	local line=
	{
		exec 3<>"/dev/tcp/$1/$2" || return 1
		printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$3" >&3
		read -r -t 5 line <&3 || true
		exec 3>&-
	} 2>/dev/null
	case "$line" in *" 200 "*) return 0 ;; *) return 1 ;; esac
}

# await SERVICE…: until all of them answer, naming each that does.
await() {
	local start=$SECONDS service
	printf 'Waiting for the services:'
	for service in "$@"; do
		until answers "$service"; do
			if [ $((SECONDS - start)) -ge "$START_SECONDS" ]; then
				printf ' %s failed\n' "$service"
				compose logs --tail=20 "$service" >&2 || true
				die "$service does not answer"
			fi
			printf ' .'
			sleep 1
		done
		printf ' %s' "$service"
	done
	printf ' done (%d s)\n' $((SECONDS - start))
}

# roll replaces replicas that run already one after the other, so that there is always one that serves.
roll() {
	local service
	for service in $REPLICAS; do [ -n "$(container "$service")" ] || return 0; done
	for service in $REPLICAS; do
		progress "Bringing $service up to date" compose up -d --no-build --no-deps "$service"
		await "$service"
		# haproxy asks the APIs each second whether they are back.
		case "$service" in api-*) sleep 2 ;; esac
	done
}

up() {
	local services
	scripts/docker-engine.sh
	need_compose
	write_env
	if profile agent2; then
		[ -n "$(setting AGENT2_DOCKER_HOST)" ] || die "the profile agent2 needs AGENT2_DOCKER_HOST (tcp://…)"
		[ -n "$(setting AGENT2_HOST)" ] || die "the profile agent2 needs AGENT2_HOST: where clients reach the ports of that engine"
	fi
	if profile observability; then
		# Not kept in the file: without the profile there is nobody to send traces to.
		TRACES_ENDPOINT=$(setting TRACES_ENDPOINT http://otel-collector:4318)
		HOST_TRACES_ENDPOINT=$(setting HOST_TRACES_ENDPOINT "http://127.0.0.1:$(setting OTLP_PORT 4318)")
		export TRACES_ENDPOINT HOST_TRACES_ENDPOINT
	fi
	images
	roll
	progress "Starting the services" compose up -d --no-build --remove-orphans
	services="redis $REPLICAS haproxy router agent"
	if profile agent2; then services="$services agent-2"; fi
	if profile observability; then services="$services otel-collector prometheus"; fi
	# shellcheck disable=SC2086 # names have no spaces
	await $services
	farewell
}

# sweep [-H ADDRESS]: removes what this installation has left on an engine.
sweep() {
	local id ids
	id=$(setting INSTALLATION_ID)
	[ -n "$id" ] || return 0
	ids=$(docker "$@" ps -aq --filter "label=dev.opensandbox.installation=$id") || return 1
	# shellcheck disable=SC2086 # ids have no spaces
	[ -z "$ids" ] || docker "$@" rm -f -v $ids >/dev/null
	ids=$(docker "$@" volume ls -q --filter "label=dev.opensandbox.execd-of=$id")
	# shellcheck disable=SC2086
	[ -z "$ids" ] || docker "$@" volume rm $ids >/dev/null
	ids=$(docker "$@" images -q --filter "label=dev.opensandbox.execd-of=$id")
	# shellcheck disable=SC2086
	[ -z "$ids" ] || docker "$@" rmi -f $ids >/dev/null
}

down() {
	local other
	case "${1:-}" in '' | --volumes) ;; *) die "usage: compose.sh down [--volumes]" ;; esac
	if [ ! -e "$ENV_FILE" ]; then
		say "There is no $ENV_FILE, so nothing was started."
		return
	fi
	need_compose
	export COMPOSE_PROFILES=$ALL_PROFILES
	progress "Stopping the services" compose down --remove-orphans "$@"
	if [ "${1:-}" != --volumes ]; then
		say "Data is kept. Sandboxes that still run do so until their deadline is checked by the next 'make up'."
		return
	fi
	progress "Removing the sandboxes" sweep
	other=$(setting AGENT2_DOCKER_HOST)
	[ -z "$other" ] || progress "Removing the sandboxes of $other" sweep -H "$other" || warn "The engine at $other does not answer: what it has is left."
}

farewell() {
	local url=http://$host:$port image=python:3.11-slim candidate
	for candidate in "$image" opensandbox/debian-python:dev opensandbox/busybox:dev; do
		if present "$candidate"; then
			image=$candidate
			break
		fi
	done
	cat <<-END

		The platform is running.
		  URL      $url
		  key      $(setting API_KEY)
		  router   http://$host:$(setting ROUTER_PORT 8081)/<sandbox>/<port>/
	END
	if profile observability; then say "  metrics  http://127.0.0.1:$(setting PROMETHEUS_PORT 9095)"; fi
	cat <<-END
		  stop     make -C $ROOT down

		Create a sandbox, run a command in it through the router, remove it:

	END
	cat <<-'END' | sed -e "s|@URL|$url|g" -e "s|@KEY|$(setting API_KEY)|g" -e "s|@IMAGE|$image|g" -e "s|@ROUTER|http://$host:$(setting ROUTER_PORT 8081)|g"
		SANDBOX=$(curl -sS @URL/v1/sandboxes -H 'OPEN-SANDBOX-API-KEY: @KEY' -H 'Content-Type: application/json' -d '{"image":{"uri":"@IMAGE"},"entrypoint":["tail","-f","/dev/null"],"timeout":600,"resourceLimits":{"cpu":"1","memory":"512Mi"}}' | sed 's/.*"id": *"\([^"]*\)".*/\1/'); echo "$SANDBOX"
		TOKEN=$(curl -sS "@URL/v1/sandboxes/$SANDBOX/endpoints/44772" -H 'OPEN-SANDBOX-API-KEY: @KEY' | sed 's/.*"X-EXECD-ACCESS-TOKEN": *"\([^"]*\)".*/\1/')
		curl -sS "@ROUTER/$SANDBOX/44772/command" -H "X-EXECD-ACCESS-TOKEN: $TOKEN" -H 'Content-Type: application/json' -d '{"command":"echo hello from $(uname -n)"}'
		curl -sS -X DELETE "@URL/v1/sandboxes/$SANDBOX" -H 'OPEN-SANDBOX-API-KEY: @KEY'
	END
}

project=$(setting COMPOSE_PROJECT_NAME opensandbox)
profiles=$(setting COMPOSE_PROFILES)
port=$(setting API_PORT 8080)
host=$(setting BIND_ADDRESS 127.0.0.1)
# A listener on all addresses is asked on this machine.
[ "$host" != 0.0.0.0 ] || host=127.0.0.1
export COMPOSE_PROFILES=$profiles

case "${1:-}" in
up) up ;;
down)
	shift
	down "$@"
	;;
*) die "usage: compose.sh up | down [--volumes]" ;;
esac
