#!/bin/bash
# Entry point of the test image with Jupyter: one Jupyter server on loopback. It takes its token from JUPYTER_TOKEN.
set -eu
# Commands that clients run find what the kernels find.
if [ -n "${EXECD_ENVS:-}" ]; then printf 'PATH=%s\n' "$PATH" >>"$EXECD_ENVS" || true; fi
# Kernels start in the directory of their context, so the root of the server is that of the file system. Jupyter's own limit on the rate
# of output would throw output away.
exec python3 -m jupyter_server --ip="${JUPYTER_IP:-127.0.0.1}" --port="${JUPYTER_PORT:-44771}" --ServerApp.port_retries=0 \
	--no-browser --allow-root --ServerApp.root_dir=/ --ServerApp.terminals_enabled=False --ZMQChannelsWebsocketConnection.limit_rate=False
