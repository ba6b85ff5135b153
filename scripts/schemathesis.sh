#!/usr/bin/env bash
# Tests the single binary by its own OpenAPI document: schemathesis makes requests that fit the document, and others that nearly do. No
# answer may be a 500, have a status that is not documented for its operation, or a body that does not fit.
#
# usage: schemathesis.sh [CASES]   at most so many cases for each operation are made by chance, 3 if it is left out; some 2,500 more come
#                                  from the bounds in the document. 40 make about 7,000 in all.
#        schemathesis.sh install   only installs it
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

CASES=${1:-3}
SETTINGS=$ROOT/tests/schemathesis
SERVER=${OPENSANDBOX_TEST_SERVER_BIN:-$ROOT/bin/opensandbox-server}
VENV=$CACHE/clients/schemathesis-$(python3 -c 'import platform; print(platform.python_version())')-$(digest "$SETTINGS/requirements.txt")
IMAGE=opensandbox/busybox:dev
KEY=$(od -An -tx1 -N24 /dev/urandom | tr -d ' \n')

install_schemathesis() {
	rm -rf "$VENV"
	python3 -m venv --without-pip "$VENV"
	python3 -m pip --python "$VENV/bin/python" install --quiet --no-input --requirement "$SETTINGS/requirements.txt"
	"$VENV/bin/schemathesis" --version
	touch "$VENV/complete"
}

[ -f "$VENV/complete" ] || progress "Installing schemathesis" install_schemathesis
[ "$CASES" != install ] || exit 0
secret 'the API key that schemathesis uses' "$KEY"

folder=$(mktemp -d "${TMPDIR:-/tmp}/opensandbox.XXXXXX")
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
pid=

# Two sandboxes fill the node: almost every other create is told so, and no test fills the machine.
cat >"$folder/server.toml" <<END
[server]
host = "127.0.0.1"
port = $port
api_key = "$KEY"
admin_listen = ""
[docker]
network_mode = "bridge"
publish_host = "127.0.0.1"
port_range_min = 34000
port_range_max = 34200
[store]
path = "$folder/data/store.db"
[agent]
state_dir = "$folder/state"
node = "schemathesis"
max_sandboxes = 2
END

call() { curl -sS -m 60 -H "OPEN-SANDBOX-API-KEY: $KEY" -H 'Content-Type: application/json' "$@"; }

# ids: the sandboxes that are there.
ids() { call "$url/v1/sandboxes?pageSize=200" | python3 -c 'import json, sys; print(*(i["id"] for i in json.load(sys.stdin)["items"]))'; }

# leave removes everything and fails if something cannot be removed.
leave() {
	local status=$? id installation left
	trap - EXIT
	if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
		for id in $(ids); do call -o "$folder/deleted" -X DELETE "$url/v1/sandboxes/$id" || status=1; done
		kill "$pid"
		wait "$pid" || status=1
		installation=$(cat "$folder/data/installation.id")
		left=$(docker ps -aq --filter "label=dev.opensandbox.installation=$installation")
		if [ -n "$left" ]; then
			warn "error: containers left behind: $left"
			status=1
		fi
		docker volume ls -q --filter "label=dev.opensandbox.execd-of=$installation" | xargs -r docker volume rm >/dev/null
		docker images -q --filter "label=dev.opensandbox.execd-of=$installation" | sort -u | xargs -r docker rmi -f >/dev/null
	fi
	if grep -E 'level=ERROR|panic' "$folder/log" | grep -v 'no node has room' >&2; then
		warn "error: the server's log has errors"
		status=1
	fi
	[ "$status" = 0 ] || grep -v 'no node has room' "$folder/log" | tail -n 20 >&2
	[ -z "${OPENSANDBOX_TEST_OUTPUT:-}" ] || cp "$folder/log" "$OPENSANDBOX_TEST_OUTPUT/schemathesis-server.log"
	rm -rf "$folder"
	exit "$status"
}
trap leave EXIT

"$SERVER" --config "$folder/server.toml" >"$folder/log" 2>&1 &
pid=$!
for ((i = 0; i < 300; i++)); do
	if call -o "$folder/health" "$url/health" 2>/dev/null; then break; fi
	kill -0 "$pid" || die "the server ended at once"
	sleep 0.1
done
for ((i = 0; i < 2; i++)); do
	call -f -o "$folder/created" -d "{\"image\":{\"uri\":\"$IMAGE\"},\"entrypoint\":[\"tail\",\"-f\",\"/dev/null\"],\"resourceLimits\":{}}" "$url/v1/sandboxes"
done

cd "$folder"
export OPENSANDBOX_TEST_URL=$url OPENSANDBOX_TEST_KEY=$KEY OPENSANDBOX_TEST_IMAGE=$IMAGE PYTHONPATH=$SETTINGS PYTHONDONTWRITEBYTECODE=1
"$VENV/bin/schemathesis" --config-file "$SETTINGS/schemathesis.toml" run "$url/openapi.json" --max-examples "$CASES" --no-color --generation-database none
