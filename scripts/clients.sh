#!/usr/bin/env bash
# Installs the published clients that the tests run (scripts/clients), each set into a folder of the cache named by its
# content, and prints where they are as lines for a shell.
#
# usage: eval "$(scripts/clients.sh)"   sets OPENSANDBOX_TEST_VENV and OPENSANDBOX_TEST_NODE_MODULES
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

LISTS=$ROOT/scripts/clients
VENV=$CACHE/clients/python-$(python3 -c 'import platform; print(platform.python_version())')-$(digest "$LISTS/requirements.txt")
NODE=$CACHE/clients/node-$(digest "$LISTS/package.json" "$LISTS/package-lock.json")

# An environment without its own pip needs no python3-venv package; the machine's pip fills it from outside.
install_python() {
	rm -rf "$VENV"
	python3 -m venv --without-pip "$VENV"
	python3 -m pip --python "$VENV/bin/python" install --quiet --no-input --requirement "$LISTS/requirements.txt"
	"$VENV/bin/python" -c 'import opensandbox'
	"$VENV/bin/osb" --version
	touch "$VENV/complete"
}

install_node() {
	rm -rf "$NODE"
	mkdir -p "$NODE"
	cp "$LISTS/package.json" "$LISTS/package-lock.json" "$NODE"
	(cd "$NODE" && npm ci --no-audit --no-fund && node --input-type=module -e 'import "@alibaba-group/opensandbox"')
	touch "$NODE/complete"
}

# The progress goes to the error output: the caller evaluates what is printed.
[ -f "$VENV/complete" ] || progress "Installing the Python clients" install_python >&2
[ -f "$NODE/complete" ] || progress "Installing the JavaScript client" install_node >&2
printf 'export OPENSANDBOX_TEST_VENV=%q OPENSANDBOX_TEST_NODE_MODULES=%q\n' "$VENV" "$NODE/node_modules"
