#!/usr/bin/env bash
# End to end: the real programs on real Docker engines, the published clients, unmodified, and the quick start. First the single binary,
# also by its OpenAPI document, then the same tests of the API and of the clients against the split services with two engines.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"

scripts/docker-engine.sh --for-tests
scripts/images.sh busybox debian-python debian-jupyter scratch-static
clients=$(scripts/clients.sh)
eval "$clients"
second=$(scripts/second-engine.sh start)
eval "$second"
trap 'scripts/second-engine.sh stop' EXIT
make --no-print-directory build
export OPENSANDBOX_TEST_SERVER_BIN=$ROOT/bin/opensandbox-server
packages=$(scripts/go-packages.sh e2e)
# shellcheck disable=SC2086 # folder names have no spaces
go_test -tags e2e -p 1 -count=1 -timeout 20m $packages
say "What the OpenAPI document says, tried out:"
scripts/schemathesis.sh
say "The same tests against the split services:"
# Not what is the same code in both: spellings of paths, the command line through the proxy, code contexts, and many warm-ups.
OPENSANDBOX_TEST_SPLIT=1 go_test -C tests -tags e2e -count=1 -timeout 8m ./acceptance -run 'TestRow|TestPublished|TestApps|TestDeadlineIsNeverEarly' \
	-skip 'TestRow18Untidy|TestRow19Warm|TestRow29|TestPublishedCLI.*ThroughTheServer|TestRow15.*CLI'
