#!/usr/bin/env bash
# Checks that each module builds on its own (without the workspace), is tidy, and that "go work sync" would change nothing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

modules=$(go list -m -f '{{.Dir}}')
for module in $modules; do
	say "module ${module#"$ROOT"/}"
	GOWORK=off go build -C "$module" ./...
	GOWORK=off go mod tidy -C "$module" -diff || die "${module#"$ROOT"/}/go.mod is not tidy: run 'make tidy'"
done

# On a copy: the check must not change the tree that it checks.
copy=$(mktemp -d "${TMPDIR:-/tmp}/opensandbox-sync.XXXXXX")
trap 'rm -rf "$copy"' EXIT
tar --exclude ./.git --exclude ./bin --exclude ./tools -cf - . | tar -xf - -C "$copy"
(cd "$copy" && go work sync)
for module in $modules; do
	for file in go.mod go.sum; do
		[ -f "$module/$file" ] || continue
		diff -u "$module/$file" "$copy/${module#"$ROOT"/}/$file" || die "the modules differ from the workspace: run 'make tidy'"
	done
done
say "All modules build alone, are tidy and agree with the workspace."
