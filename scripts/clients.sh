#!/usr/bin/env bash
# Installs the published clients that the tests run (scripts/clients), each set into a folder of the cache named by its
# content, and prints where they are as lines for a shell.
#
# usage: eval "$(scripts/clients.sh)"   sets OPENSANDBOX_TEST_VENV, OPENSANDBOX_TEST_MCP and OPENSANDBOX_TEST_NODE_MODULES
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

LISTS=$ROOT/scripts/clients
PYTHON=$(python3 -c 'import platform; print(platform.python_version())')
VENV=$CACHE/clients/python-$PYTHON-$(digest "$LISTS/requirements.txt")
MCP=$CACHE/clients/mcp-$PYTHON-$(digest "$LISTS/mcp.txt")
NODE=$CACHE/clients/node-$(digest "$LISTS/package.json" "$LISTS/package-lock.json")

# environment DIR LIST: one without its own pip needs no python3-venv package; the machine's pip fills it from outside.
environment() {
	rm -rf "$1"
	python3 -m venv --without-pip "$1"
	python3 -m pip --python "$1/bin/python" install --quiet --no-input --requirement "$2"
}

install_python() {
	environment "$VENV" "$LISTS/requirements.txt"
	"$VENV/bin/python" -c 'import opensandbox'
	"$VENV/bin/osb" --version
	touch "$VENV/complete"
}

install_mcp() {
	environment "$MCP" "$LISTS/mcp.txt"
	"$MCP/bin/opensandbox-mcp" --help >/dev/null
	touch "$MCP/complete"
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
[ -f "$MCP/complete" ] || progress "Installing the MCP server" install_mcp >&2
[ -f "$NODE/complete" ] || progress "Installing the JavaScript client" install_node >&2
printf 'export OPENSANDBOX_TEST_VENV=%q OPENSANDBOX_TEST_MCP=%q OPENSANDBOX_TEST_NODE_MODULES=%q\n' "$VENV" "$MCP/bin/opensandbox-mcp" "$NODE/node_modules"
