#!/usr/bin/env bash
# Format, no skipped tests, go vet over every build tag, staticcheck (pinned in tools/go.mod), shellcheck.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"

unformatted=$(gofmt -l libs services tests)
[ -z "$unformatted" ] || die "not formatted (make fmt): $unformatted"

skipped=$(grep -rnE --include='*_test.go' '\b[tbf]\.(Skip|SkipNow|Skipf)\(' libs services tests || true)
[ -z "$skipped" ] || die "tests do not skip: $skipped"

go vet work
go vet -tags integration work
go vet -tags e2e work
go vet -C tests -tags chaos ./chaos
go vet -tags e2e,sabotage work
say "go vet: no findings."

staticcheck=$CACHE/bin/staticcheck-$(digest "$ROOT/tools/go.mod" "$ROOT/tools/go.sum")-$(go env GOVERSION)
if [ ! -x "$staticcheck" ]; then
	progress "Building staticcheck" env GOWORK=off go build -C tools -o "$staticcheck.part" honnef.co/go/tools/cmd/staticcheck
	mv "$staticcheck.part" "$staticcheck"
fi
# SA1019 (deprecated) is off: the oldest engine that we support knows only fields that the Docker client calls deprecated.
"$staticcheck" -checks inherit,-SA1019 -tags integration work
"$staticcheck" -checks inherit,-SA1019 -tags e2e work
(cd tests && "$staticcheck" -checks inherit,-SA1019 -tags chaos ./chaos)
"$staticcheck" -checks inherit,-SA1019 -tags e2e,sabotage work
say "staticcheck: no findings."

shellcheck -x scripts/*.sh scripts/suites/*.sh .ci/run
say "shellcheck: no findings."
