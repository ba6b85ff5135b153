#!/usr/bin/env bash
# Renews the files of Swagger UI and Redoc that the API's pages are made of, from the npm packages of the versions below. They are kept
# in the tree, compressed as they are served, so that a build and a running server need no network.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

SWAGGER_UI=5.35.0
REDOC=2.5.4
ASSETS=$ROOT/services/api/internal/httpapi/openapi/assets

folder=$(mktemp -d "${TMPDIR:-/tmp}/opensandbox.XXXXXX")
trap 'rm -rf "$folder"' EXIT

# unpack NAME VERSION: the content of the package is in $folder/NAME/package.
unpack() {
	(cd "$folder" && npm pack --silent "$1@$2" >/dev/null && mkdir "$1" && tar xzf "$1-$2.tgz" -C "$1")
}

# take FILE NAME: without a name and a time in it, the same content gives the same file.
take() { gzip -9 -n <"$folder/$1" >"$ASSETS/$2.gz"; }

unpack swagger-ui-dist "$SWAGGER_UI"
unpack redoc "$REDOC"
# Redoc's link to its authors has an image that comes from the internet: an empty one takes its place.
bundle=$folder/redoc/package/bundles/redoc.standalone.js
grep -q https://cdn.redoc.ly/redoc/logo-mini.svg "$bundle" || die "redoc $REDOC: the image is not where it was"
sed -i.bak 's|https://cdn.redoc.ly/redoc/logo-mini.svg|data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==|g' "$bundle"

mkdir -p "$ASSETS"
rm -f "$ASSETS"/*
for name in swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css oauth2-redirect.js favicon-32x32.png; do
	take "swagger-ui-dist/package/$name" "$name"
done
take swagger-ui-dist/package/LICENSE swagger-ui.LICENSE.txt
take swagger-ui-dist/package/NOTICE swagger-ui.NOTICE.txt
for name in redoc.standalone.js redoc.standalone.js.LICENSE.txt; do
	take "redoc/package/bundles/$name" "$name"
done
take redoc/package/LICENSE redoc.LICENSE.txt
ls -l "$ASSETS"
