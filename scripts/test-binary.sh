#!/usr/bin/env bash
# Runs a test binary for go test (-exec), with all that it can tell going into a file of $OPENSANDBOX_TEST_OUTPUT, which is searched for
# secrets afterwards: what tests log that pass as well. If it fails, prints it without what is of tests that have passed, and the logs of
# processes before what the tests say: whoever sees only the end sees the cause.
#
# usage: test-binary.sh BINARY ARGUMENT…
set -euo pipefail

file=$(mktemp "$OPENSANDBOX_TEST_OUTPUT/$(basename "$1").XXXXXX")
status=0
"$1" -test.v=true "${@:2}" >"$file" 2>&1 || status=$?
if [ "$status" = 0 ]; then
	# go test looks for this line.
	grep -x 'testing: warning: no tests to run' "$file" || true
	exit 0
fi
awk '
	/^=== (RUN|CONT|NAME|PAUSE) / { test = $3; early = 0; next }
	/^panic: |^fatal error: |^SIGQUIT: / { test = ""; early = 0 }
	/^ *--- (PASS|SKIP|FAIL): / {
		early = 0
		if ($2 == "FAIL:") lines[++n] = $0; else over[$3] = 1
		if ($0 !~ /^ /) test = ""
		next
	}
	/^ *[^ ]+\.go:[0-9]+: / { early = / log of .* \(end\):$/ }
	{ lines[++n] = $0; of[n] = test; first[n] = early && test != "" }
	END {
		for (i = 1; i <= n; i++) if (first[i] && !(of[i] in over)) print lines[i]
		for (i = 1; i <= n; i++) if (!first[i] && !(of[i] in over)) print lines[i]
	}
' "$file"
exit "$status"
