#!/usr/bin/env bash
# From nothing to a command in a sandbox: engine, image, binaries, a running server, a demonstration. Run again it restarts
# the server with the same key, port and state.
#
# usage: quickstart.sh start|stop
# OPENSANDBOX_HOME says where key, configuration, state and log are (default ~/.opensandbox/quickstart).
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

STATE=${OPENSANDBOX_HOME:-$HOME/.opensandbox/quickstart}
CONFIG=$STATE/server.toml
LOG=$STATE/server.log
FIRST_PORT=8080
LAST_PORT=8180
START_SECONDS=60
STOP_SECONDS=30

# running: fills pid if the server of this state folder runs. A number alone could be another process by now.
running() {
	pid=$(cat "$STATE/pid" 2>/dev/null || true)
	[ -n "$pid" ] && arguments "$pid" | grep -qF -- "--config $CONFIG"
}

# arguments PID: its command line; from /proc where there is one, as a bare machine may have no ps.
arguments() {
	if [ -d /proc/self ]; then tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" || true; else ps -p "$1" -o args= || true; fi
} 2>/dev/null

stop_server() {
	local start=$SECONDS
	if running; then
		printf 'Stopping the server (process %d)' "$pid"
		kill -TERM "$pid"
		while running; do
			if [ $((SECONDS - start)) -ge "$STOP_SECONDS" ]; then
				printf ' failed\n'
				die "the server did not end within $STOP_SECONDS s; see $LOG"
			fi
			printf ' .'
			sleep 1
		done
		printf ' done (%d s)\n' $((SECONDS - start))
	fi
	rm -f "$STATE/pid"
}

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# choose_port fills port: the one of last time if it is free, else the first free one.
choose_port() {
	local remembered
	remembered=$(cat "$STATE/port" 2>/dev/null || true)
	port=${remembered:-$FIRST_PORT}
	if taken "$port"; then
		say "Port $port is taken by another program."
		port=$FIRST_PORT
		while taken "$port"; do
			port=$((port + 1))
			[ "$port" -le "$LAST_PORT" ] || die "no free port from $FIRST_PORT to $LAST_PORT"
		done
	fi
	printf '%s\n' "$port" >"$STATE/port"
}

# choose_image fills image: one that the engine has or can pull, else one made on this machine.
choose_image() {
	local candidate
	image=python:3.11-slim
	for candidate in "$image" opensandbox/debian-python:dev; do
		if docker image inspect "$candidate" >/dev/null 2>&1; then
			image=$candidate
			return
		fi
	done
	if progress "Pulling $image" pull "$image" 2>/dev/null; then return; fi
	say "The registry cannot be reached: making an image on this machine."
	if { type -P busybox && ! ldd "$(type -P busybox)"; } >/dev/null 2>&1 || { is_root && have apt-get; }; then
		if scripts/images.sh busybox; then
			image=opensandbox/busybox:dev
			return
		fi
	fi
	scripts/images.sh host-shell
	image=opensandbox/host-shell:dev
}

write_config() {
	local publish=
	[ -s "$STATE/key" ] || (umask 077 && od -An -tx1 -N24 /dev/urandom | tr -d ' \n' >"$STATE/key")
	key=$(cat "$STATE/key")
	# Sandbox ports are for this machine only, unless the engine is on another one.
	case "${DOCKER_HOST:-unix:}" in unix:*) publish='publish_host = "127.0.0.1"' ;; esac
	rm -f "$CONFIG"
	(umask 077 && cat >"$CONFIG") <<-END
		# Written anew by each "make quickstart".
		[server]
		host = "127.0.0.1"
		port = $port
		api_key = "$key"
		admin_listen = ""

		[runtime]
		type = "docker"

		[docker]
		network_mode = "bridge"
		$publish

		[store]
		type = "sqlite"
		path = "$STATE/opensandbox.db"

		[agent]
		state_dir = "$STATE/agent"
	END
}

# healthy: the server answers GET /health with 200.
healthy() {
	local line=
	{
		exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
		printf 'GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
		read -r -t 5 line <&3 || true
		exec 3>&-
	} 2>/dev/null
	case "$line" in *" 200 "*) return 0 ;; *) return 1 ;; esac
}

start_server() {
	local start=$SECONDS
	printf 'Starting the server'
	# A session of its own: it outlives this terminal, and Ctrl-C here is not for it. The key comes from the file alone.
	if have setsid; then
		env -u OPENSANDBOX_SERVER_API_KEY setsid "$ROOT/bin/opensandbox-server" --config "$CONFIG" >>"$LOG" 2>&1 </dev/null &
	else
		env -u OPENSANDBOX_SERVER_API_KEY nohup "$ROOT/bin/opensandbox-server" --config "$CONFIG" >>"$LOG" 2>&1 </dev/null &
	fi
	printf '%s\n' $! >"$STATE/pid"
	until healthy; do
		if ! kill -0 "$(cat "$STATE/pid")" 2>/dev/null || [ $((SECONDS - start)) -ge "$START_SECONDS" ]; then
			printf ' failed\n'
			tail -n 20 "$LOG" >&2
			die "the server does not answer; its log is $LOG"
		fi
		printf ' .'
		sleep 1
	done
	printf ' done (%d s)\n' $((SECONDS - start))
}

farewell() {
	local url=http://127.0.0.1:$port
	cat <<-END

		The server is running.
		  URL    $url
		  key    $key
		  log    $LOG
		  stop   ${OPENSANDBOX_HOME:+OPENSANDBOX_HOME=$STATE }make -C $ROOT quickstart-stop

		The same three steps with curl (create a sandbox, ask for its address, run a command):

	END
	cat <<-'END' | sed -e "s|@URL|$url|g" -e "s|@KEY|$key|g" -e "s|@IMAGE|$image|g"
		SANDBOX=$(curl -sS @URL/v1/sandboxes -H 'OPEN-SANDBOX-API-KEY: @KEY' -H 'Content-Type: application/json' -d '{"image":{"uri":"@IMAGE"},"entrypoint":["tail","-f","/dev/null"],"timeout":600,"resourceLimits":{"cpu":"1","memory":"512Mi"}}' | sed 's/.*"id": *"\([^"]*\)".*/\1/'); echo "$SANDBOX"
		ACCESS=$(curl -sS "@URL/v1/sandboxes/$SANDBOX/endpoints/44772" -H 'OPEN-SANDBOX-API-KEY: @KEY'); echo "$ACCESS"
		curl -sS "http://$(echo "$ACCESS" | sed 's/.*"endpoint": *"\([^"]*\)".*/\1/')/command" -H "X-EXECD-ACCESS-TOKEN: $(echo "$ACCESS" | sed 's/.*"X-EXECD-ACCESS-TOKEN": *"\([^"]*\)".*/\1/')" -H 'Content-Type: application/json' -d '{"command":"echo hello from $(uname -n)"}'

		and with Python (pip install opensandbox==1.1.1):

		python3 - <<'PY'
		from opensandbox import SandboxSync
		from opensandbox.config import ConnectionConfigSync
		server = ConnectionConfigSync(domain="@URL", api_key="@KEY")
		sandbox = SandboxSync.create("@IMAGE", connection_config=server)
		result = sandbox.commands.run("echo hello from $(uname -n)")
		print(result.logs.stdout[0].text)
		PY
	END
}

start() {
	have go || die "Go is not installed (https://go.dev/dl/)"
	mkdir -p "$STATE"
	# It holds the key, and so does the configuration.
	chmod 700 "$STATE"
	scripts/docker-engine.sh
	choose_image
	say "Sandboxes will run $image."
	progress "Building the server (minutes the first time)" make --no-print-directory build
	progress "Building the demonstration" go build -C tests -buildvcs=false -o "$ROOT/bin/quickstart-demo" ./cmd/quickstart-demo
	stop_server
	choose_port
	write_config
	start_server
	bin/quickstart-demo -url "http://127.0.0.1:$port" -key-file "$STATE/key" -image "$image"
	farewell
}

case "${1:-}" in
start) start ;;
stop)
	if ! running; then
		say "No server of the quick start is running."
		exit 0
	fi
	stop_server
	say "State is kept in $STATE. Sandboxes that still run do so until their deadline is checked by the next 'make quickstart'."
	;;
*) die "usage: quickstart.sh start|stop" ;;
esac
