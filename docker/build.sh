#!/bin/sh
# Builds the programs of the images into a directory: static and small. Inlined in each other,
# the many generated methods of some libraries would take three megabytes.
set -eu
cd "${0%/*}/.."
CGO_ENABLED=0 exec go build -trimpath -ldflags '-s -w' \
  -gcflags 'github.com/redis/go-redis/v9=-l' \
  -gcflags 'google.golang.org/protobuf/...=-l' \
  -gcflags 'github.com/alicebob/...=-l' \
  -o "$1/" ./app/cmd/rollcall ./docker/demo
