#!/bin/sh
# Builds the programs of the images into a directory: static and small. Inlined in each other,
# the many generated methods of some libraries would take three megabytes. VERSION, REVISION and DATE are for
# rollcall version where the Go tool cannot read them from git.
set -eu
cd "${0%/*}/.."
CGO_ENABLED=0 exec go build -trimpath \
  -ldflags "-s -w -X rollcall/app/boot.version=${VERSION:-} -X rollcall/app/boot.revision=${REVISION:-} -X rollcall/app/boot.date=${DATE:-}" \
  -gcflags 'github.com/redis/go-redis/v9=-l' \
  -gcflags 'google.golang.org/protobuf/...=-l' \
  -gcflags 'github.com/alicebob/...=-l' \
  -o "$1/" ./app/cmd/rollcall ./docker/demo
