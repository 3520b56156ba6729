#!/bin/sh
# The demo without Docker: Rollcall with its edge, memcached, two services and two
# clients as processes of this machine, each under its hook. Ctrl-C ends all of them.
set -eu
cd "$(dirname "$0")/../.."

: "${PORT:=8080}" "${ROLLCALL_EDGE_PORT:=8000}" "${MEMCACHED_PORT:=11311}"
export PORT ROLLCALL_EDGE_PORT ROLLCALL_LOG_LEVEL="${ROLLCALL_LOG_LEVEL:-info}"
export ROLLCALL_URL="http://127.0.0.1:$PORT"
api=$ROLLCALL_URL edge=http://127.0.0.1:$ROLLCALL_EDGE_PORT

command -v memcached >/dev/null || tests/install.sh
command -v memcached >/dev/null || { echo 'the demo needs memcached' >&2; exit 1; }

bin=$(mktemp -d) apps='' rollcall=''
end() {
  trap '' INT TERM
  # The registered processes end first, so that each can deregister.
  # shellcheck disable=SC2086 # a list
  [ -z "$apps" ] || { kill $apps 2>/dev/null; wait $apps; } || true
  [ -z "$rollcall" ] || { kill "$rollcall" 2>/dev/null; wait "$rollcall"; } || true
  rm -rf "$bin"
}
trap end EXIT
trap 'exit 0' INT TERM

echo 'Building ...'
go build -o "$bin/" ./app/cmd/rollcall ./docker/demo

if curl -s -o /dev/null "$ROLLCALL_URL/livez"; then
  echo "Port $PORT is in use: end the program that listens there, or choose another port, as in PORT=8090 make demo." >&2
  exit 1
fi
"$bin/rollcall" dev >"$bin/greeting" &
rollcall=$!
until "$bin/rollcall" ls >/dev/null 2>&1 && kill -0 "$rollcall" 2>/dev/null; do
  kill -0 "$rollcall" 2>/dev/null || { echo "Rollcall did not start; PORT, ROLLCALL_EDGE_PORT and ROLLCALL_EMBEDDED_REDIS_PORT say where it listens." >&2; exit 1; }
  sleep 0.1
done

# hooked ID PORT COMMAND... starts a command under the hook, registered at PORT. The rest
# of the registration is in the environment.
hooked() {
  id=$1 port=$2
  shift 2
  ROLLCALL_ID=$id ROLLCALL_PORT=$port ROLLCALL_HOLD=1s "$bin/rollcall" run -- "$@" 2>"$bin/$id.log" &
  apps="$apps $!"
  echo "$id $!" >>"$bin/hooks"
}

as=''
[ "$(id -u)" != 0 ] || as='-u nobody'
# shellcheck disable=SC2086 # an option and its value, or nothing
ROLLCALL_SERVICE=memcached ROLLCALL_HEALTH=memcached hooked memcached "$MEMCACHED_PORT" memcached -l 127.0.0.1 -p "$MEMCACHED_PORT" $as
for n in 1 2; do
  export ROLLCALL_HEALTH=":920$n/healthcheck" ROLLCALL_EXPECT=service
  ROLLCALL_SERVICE=service hooked "service-$n" "910$n" "$bin/demo" service -name "service-$n" -listen "127.0.0.1:910$n" -admin "127.0.0.1:920$n"
  export ROLLCALL_HEALTH=":940$n/healthcheck" ROLLCALL_EXPECT=client
  ROLLCALL_SERVICE=client ROLLCALL_HOST="client.local client.localhost" hooked "client-$n" "930$n" "$bin/demo" client -name "client-$n" -listen "127.0.0.1:930$n" -admin "127.0.0.1:940$n"
done
"$bin/rollcall" wait client service memcached

cat <<END

The demo is up. Ctrl-C ends it.

  curl -H 'Host: client.local' $edge/demo
                                   once more, and the list is longer: each entry tells
                                   which client and which service it went through
  http://client.localhost:$ROLLCALL_EDGE_PORT/demo   the same in a browser
  curl $api/v1/services
  curl $api/v1/frontends           who gets requests, and why

Kill something and go on asking:

END
while read -r id pid; do
  printf '  kill -9 %s %-8s %s\n' "$pid" "$(pgrep -P "$pid" | head -n 1)" "$id"
done <"$bin/hooks"
echo
wait
