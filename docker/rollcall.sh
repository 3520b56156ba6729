#!/bin/sh
# rollcall.sh runs a command as a container's entrypoint and keeps it registered with
# Rollcall for as long as it runs:
#
#   ENTRYPOINT ["rollcall.sh", "--", "my-app", "arg"]
#
# It needs a POSIX shell, curl or wget, and env, od, sed, sleep, tr and uname; it writes
# no file.
# `rollcall run -- my-app arg` does the same in images without a shell. Environment:
#
#   ROLLCALL_URL         Rollcall's API; without it the command is just run
#   ROLLCALL_TOKEN       bearer token for it
#   ROLLCALL_SERVICE     name of the service
#   ROLLCALL_PORT        where the command listens (default: $PORT)
#   ROLLCALL_ADDRESS     host or host:port where others reach it (default: what the
#                        platform says, else the address that the call comes from)
#   ROLLCALL_HOST        its vhosts, separated by commas or spaces
#   ROLLCALL_TAG         separated by commas
#   ROLLCALL_META        name=value, separated by commas
#   ROLLCALL_EXPECT      as in a registration; a status and a text on a line each
#   ROLLCALL_{HEALTH,INTERVAL,TIMEOUT,RISE,FALL,GRACE,FORGET,WEIGHT,FAIL_OPEN,REPLACES}
#                        as in a registration
#   ROLLCALL_ID          default: service-hostname-port, and a suffix when another
#                        container has that id
#   ROLLCALL_BOOT        default: a nonce of this start
#   ROLLCALL_HEALTH_CMD  run by sh every interval; its success is reported as a heartbeat
#   ROLLCALL_HOLD        how long the command goes on serving while it drains (5s)
#   ROLLCALL_REASSERT    how often it is registered again, should Redis lose it (10s)
#
# The command is started at once and finds its id in ROLLCALL_ID. TERM, INT and QUIT
# reach it once Rollcall has taken it out of service, a second one and all other signals
# at once. Its exit code is the script's.

# shellcheck disable=SC2317 # functions are called by traps, and by a name in a variable
set -f # nothing here is a file pattern, and a vhost may be *.example.com
nl='
'
say() { printf 'rollcall: %s\n' "$*" >&2; }

# ---- the command and its signals

app='' agent='' call='' code='' stopping='' hurry='' caught=''

# started fills in what a signal may come too early for: $! is set before the
# assignment that follows a start.
started() {
  : "${app:=$!}"
  [ "$app" = "$!" ] || : "${agent:=$!}"
}

# pass sends the command a signal. A shell starts what runs in the background with INT
# and QUIT ignored, and a command that is a shell script can never change that: who
# ignores them since the start is sent TERM.
pass() {
  [ -n "$app" ] || return 0
  ignored=''
  case $1-$defaults in INT-no | QUIT-no) ignored=$(sed -n 's/^SigIgn:.*\(.\)$/\1/p' "/proc/$app/status") ;; esac
  case $1-$ignored in
  INT-[2367abef] | QUIT-[4-7c-f]) kill -s TERM "$app" ;;
  *) kill -s "$1" "$app" ;;
  esac
} 2>/dev/null

forward() {
  caught=1
  started
  pass "$1"
}

# stop drains, then passes the signal on. A second one is passed on at once.
stop() {
  caught=1
  started
  [ -n "$app" ] || exit "$2"
  if [ -n "$stopping" ]; then
    hurry=1
    pass "$1"
    return
  fi
  stopping=1
  say "$1: draining $id"
  finish "$agent"
  leave "$hold" $((hold_ms / 1000 + 3)) "drained @" &
  call=$!
  while [ -z "$hurry" ] && kill -0 "$call" 2>/dev/null; do wait "$call"; done
  [ -n "$hurry" ] || pass "$1"
}

# finish ends a process of ours with all that it has started. Without job control
# there is no process group to signal, so they are found by their parents; each is
# stopped first, so that it starts no more while we look. Children are killed before
# their parents: a group that is stopped when its last parent goes is sent HUP, and wget
# would open a log.
finish() {
  { [ -n "$1" ] && kill -s STOP "$1"; } 2>/dev/null || return 0
  root=$1
  family=" $1 "
  before=''
  while [ "$family" != "$before" ]; do
    before=$family
    set +f
    # shellcheck disable=SC2046 # pairs of a process and its parent
    set -- $(sed -n 's/^\([0-9]*\) (.*) . \([0-9]*\) .*/\1 \2/p' /proc/[0-9]*/stat 2>/dev/null)
    set -f
    while [ $# -gt 1 ]; do
      case $family in
      *" $1 "*) ;;
      *" $2 "*) kill -s STOP "$1" 2>/dev/null && family=" $1$family" ;;
      esac
      shift 2
    done
  done
  # shellcheck disable=SC2086 # a list
  kill -s KILL $family 2>/dev/null
  wait "$root" 2>/dev/null
}

# ---- calls

# request makes a call: request PATH SECONDS [FORM], which is posted if it is given. It
# leaves the status of the answer in $status, 000 when there was none, and in $answer the
# body, or why there is none.
request() {
  asked=$1
  sent=${3-}
  answer=$("send_$client" "$@" 2>&1)
  status=$?
  if [ "$client" = curl ]; then
    status=${answer##*"$nl"status:}
    answer=${answer%"$nl"status:*}
    answer=${answer#"curl: ("*") "}
  elif [ "$status" = 0 ]; then
    status=200
  else
    case $answer in *HTTP/[0-9]*) status=${answer#*HTTP/[0-9]* } ;; *) status=000 ;; esac
  fi
  status=${status%%[!0-9]*}
  : "${status:=000}"
}

# The token goes in by stdin where that is possible: command lines are public.
send_curl() {
  path=$1
  seconds=$2
  shift 2
  if [ -n "$token" ]; then printf 'header = "Authorization: Bearer %s"\n' "$token"; fi |
    curl -sS -K - --connect-timeout 2 -m "$seconds" -w "${nl}status:%{http_code}" ${1+-d "$1"} "$url$path"
}

send_wget() {
  $limit ${limit:+"$2"} wget -nv -S -O - --content-on-error -t 1 --max-redirect=0 --connect-timeout=2 \
    --dns-timeout=2 --read-timeout="$2" ${token:+--header "Authorization: Bearer $token"} ${3+--post-data "$3"} "$url$1"
}

send_busybox() {
  $limit ${limit:+"$2"} wget -q -O - ${token:+--header "Authorization: Bearer $token"} ${3+--post-data "$3"} "$url$1"
}

# explain makes the last call once more, over nc: busybox's wget keeps the body of an
# error to itself.
explain() {
  case $url in https:* | *]*) return ;; esac
  server=${url#*://}
  prefix=${server#"${server%%/*}"}
  server=${server%%/*}
  server=${server##*@}
  case $server in *:*) at=${server##*:} ;; *) at=80 ;; esac
  reply=$({
    printf 'POST %s HTTP/1.0\r\nHost: %s\r\n' "$prefix$asked" "$server"
    [ -z "$token" ] || printf 'Authorization: Bearer %s\r\n' "$token"
    printf 'Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %s\r\n\r\n%s' "${#sent}" "$sent"
    sleep 1 # the end of its input would be taken for a caller who hangs up
  } | $limit ${limit:+5} nc "${server%:*}" "$at" 2>/dev/null)
  case $reply in *'"detail":'*) answer=$reply ;; esac
}

# field prints a text from the answer.
field() { printf '%s\n' "$answer" | sed -n "s/\\\\\"/'/g; s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

# why says why the last call went wrong.
why() {
  case $client-$status in busybox-4??) explain ;; esac
  detail=$(field detail)
  case $status-$detail in
  000-*)
    case $answer in '' | Terminated*) answer="no answer in time" ;; esac
    printf %s "${answer%%"$nl"*}"
    ;;
  *-) printf %s "answered $status" ;;
  *) printf %s "$detail ($status)" ;;
  esac
}

# patiently makes a call again while Rollcall cannot reach its Redis.
patiently() {
  for pause in 500 500 0; do
    request "$@"
    case $status-$pause in 5??-500) nap "$pause" ;; *) break ;; esac
  done
}

# leave takes the command out of service: leave HOLD SECONDS WHAT-TO-SAY, where @ stands
# for the id. Rollcall answers when the hold is over. The agent may have registered the
# command under the free id; an instance that another container has registered stays.
leave() {
  elsewhere=''
  for own in "$id" $free; do
    encode "$own"
    name=$encoded
    patiently "/v1/instances/$name" 3
    case $status-$answer in
    2??-*"$ours"* | 40[13]-*)
      patiently "/v1/instances/$name/drain?hold=$1&boot=$nonce" "$2" ''
      [ "$status" != 422 ] || patiently "/v1/instances/$name/drain?hold=$1" "$2" '' # an older Rollcall
      ;;
    2??-*) status=409 ;;
    esac
    case $status in 404) ;; 409) elsewhere=$own ;; *) break ;; esac
  done
  case $status-$elsewhere in
  2??-*) say "${3%%@*}$own${3#*@}" ;;
  40[49]-?*) say "$elsewhere was started anew elsewhere: left alone" ;;
  404-) ;; # it never was there, or is gone meanwhile
  *) say "could not drain $own: $(why)" ;;
  esac
}

# ---- what is registered

# encode leaves its argument in $encoded, percent-encoded byte by byte if anything in
# it has to be.
encode() {
  encoded=$1
  case $1 in
  *[!A-Za-z0-9._~/:-]*) encoded=$(printf %s "$1" | od -An -v -tx1 | tr -d '\n' | tr ' ' %) ;;
  esac
}

# add appends a field to the form: add FIELD VALUE. given does so if there is a value.
add() {
  encode "$1"
  form="$form${form:+&}$encoded"
  encode "$2"
  form="$form=$encoded"
}
given() { [ -z "$2" ] || add "$1" "$2"; }

# list adds a field for every item: list FIELD SEPARATORS VALUE.
list() {
  as=$1
  IFS=$2
  # shellcheck disable=SC2086 # to be split
  set -- $3
  unset IFS
  for item; do
    item=${item#"${item%%[! ]*}"}
    item=${item%"${item##*[! ]}"}
    case $as-$item in
    meta-*=*) add "meta.${item%%=*}" "${item#*=}" ;;
    meta-?*) add "meta.$item" '' ;;
    *) given "$as" "$item" ;;
    esac
  done
}

fields() {
  form=''
  add service "$ROLLCALL_SERVICE"
  given id "$id"
  given boot "$boot"
  given replaces "$ROLLCALL_REPLACES"
  health=${ROLLCALL_HEALTH_CMD:+heartbeat}
  given health "${health:-$ROLLCALL_HEALTH}"
  given interval "$ROLLCALL_INTERVAL"
  given timeout "$ROLLCALL_TIMEOUT"
  given rise "$ROLLCALL_RISE"
  given fall "$ROLLCALL_FALL"
  given grace "$ROLLCALL_GRACE"
  given forget "$ROLLCALL_FORGET"
  given weight "$ROLLCALL_WEIGHT"
  given fail_open "$ROLLCALL_FAIL_OPEN"
  list host ", $nl" "$ROLLCALL_HOST"
  list tag , "$ROLLCALL_TAG"
  list meta , "$ROLLCALL_META"
  list expect "$nl" "$ROLLCALL_EXPECT"
}

# nomad prints the address with the label http, or else the only one there is.
nomad() {
  # shellcheck disable=SC2046 # a list
  set -- $(env | sed -n "s/^$1\([^=]*\)=\(.\)/\1 \2/p")
  only=''
  [ $# -gt 2 ] || only=$2
  while [ $# -gt 1 ]; do
    [ "$1" != http ] || only=$2
    shift 2
  done
  printf %s "$only"
}

# ecs asks Amazon ECS for the task's address. On a bridge the task does not know the
# one that others reach it at.
ecs() {
  task=$(
    case $client in
    curl) curl -sS -m 5 "$1" ;;
    *) $limit ${limit:+5} wget -q -O - "$1" ;;
    esac 2>/dev/null | tr -d ' \n\r\t'
  )
  case $task in
  *'"NetworkMode":"bridge"'*) ;;
  *'"IPv4Addresses":["'*)
    task=${task#*'"IPv4Addresses":["'}
    printf %s "${task%%\"*}"
    ;;
  esac
}

# ported reports whether an address names a port.
ported() { case $1 in *]:*) ;; *:*:*) return 1 ;; *:*) ;; *) return 1 ;; esac }

# ---- time, in milliseconds

# ms prints a Go duration, or fails if it is none.
ms() {
  total=0
  rest=$1
  [ "$rest" != 0 ] || rest=0s
  while :; do
    number=${rest%%[!0-9.]*}
    rest=${rest#"$number"}
    unit=${rest%%[0-9.]*}
    rest=${rest#"$unit"}
    case $unit in ms) unit=1 ;; s) unit=1000 ;; m) unit=60000 ;; h) unit=3600000 ;; *) return 1 ;; esac
    case $number in '' | . | *.*.*) return 1 ;; *.*) part=${number#*.}000 ;; *) part=000 ;; esac
    part=${part%"${part#???}"}
    number=${number%%.*}
    number=${number#"${number%%[!0]*}"} # 08 would be octal
    total=$((total + unit * ${number:-0} + unit * (1$part - 1000) / 1000))
    [ -n "$rest" ] || break
  done
  printf %s "$total"
}

# duration prints a duration, or its default: duration VARIABLE VALUE DEFAULT.
duration() {
  if ms "$2" >/dev/null; then
    printf %s "$2"
  else
    say "$1 is '$2', which is no duration such as 5s: taking $3"
    printf %s "$3"
  fi
}

nap() { sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))" 2>/dev/null || sleep $(($1 / 1000 + 1)); }

# spread shortens a time by up to a quarter, so that those who were started together
# do not call together for ever.
spread() { printf %s $(($1 - $1 * $(od -An -N1 -tu1 /dev/urandom) / 1024)); }

# ---- the agent, which keeps the command registered

keep_registered() {
  trap '' HUP USR1 USR2 # the command's business
  fields
  fixed=$form
  backoff=500
  told=''
  verdict=pass
  refused=''
  while kill -0 $$ 2>/dev/null; do
    [ "$told" = draining ] || assert
    if [ -z "$known" ] || [ -z "$ROLLCALL_HEALTH_CMD" ]; then
      nap "$pause"
      continue
    fi
    fresh=1
    while [ "$pause" -gt 0 ] && kill -0 $$ 2>/dev/null; do
      nap "$interval" &
      timer=$!
      report || [ -n "$fresh" ] || pause=0
      fresh=''
      if [ "$pause" = 0 ]; then finish "$timer"; else wait "$timer"; fi
      pause=$((pause - interval))
    done
  done
}

# assert registers the command. It sets pause, the time to the next registration, and
# known if Rollcall knows the command now.
assert() {
  known=''
  if [ -z "$address" ] && [ -n "$ECS_CONTAINER_METADATA_URI_V4" ]; then
    address=$(ecs "$ECS_CONTAINER_METADATA_URI_V4")
  fi
  form=$fixed
  given address "$address"
  ported "$address" || given port "$port"
  request /v1/register 10 "$form"
  case $status-$answer in
  2??-*'"id":'*)
    known=1
    backoff=500
    pause=$reassert
    case $answer in
    *'"new":true'*) [ "$pause" -lt 1000 ] || pause=1000 ;; # another claimant of the id or the address is found out early
    esac
    pause=$(spread "$pause")
    case $told-$answer in
    registered-*'"new":true'*) say "Rollcall had lost $id: registered it again" ;;
    registered-*) ;;
    *) say "registered $id at $(field address)" ;;
    esac
    told=registered
    ;;
  410-*)
    say "$id is draining: not registered again by this start"
    told=draining
    pause=30000
    ;;
  000-* | 2??-* | 408-* | 425-* | 429-* | 5??-*)
    [ "$told" = away ] || say "no registration at $shown, trying on: $(why)"
    told=away
    pause=$(spread "$backoff")
    backoff=$((backoff * 2))
    [ "$backoff" -lt "$longest" ] || backoff=$longest
    ;;
  *)
    pause=30000
    [ "$status" != 409 ] || pause=$reassert # the holder may be gone soon
    case $client-$status in busybox-409) explain ;; esac
    reason=$(why)
    case $status-$(field field)-$free in
    409-id-?*)
      say "id $id is held by another container: registering as $free ($reason)"
      id=$free
      free=''
      ROLLCALL_ID=$id
      encode "$id"
      name=$encoded
      fields
      fixed=$form
      pause=0
      return
      ;;
    esac
    [ "$told" = "$reason" ] || say "registration refused, trying again every $(((pause + 500) / 1000)) s: $reason"
    told=$reason
    ;;
  esac
}

# report runs the health command and reports what came of it. It fails if Rollcall does
# not know the command any more.
report() {
  note=$($limit ${limit:+"$patience"} sh -c "$ROLLCALL_HEALTH_CMD" 2>&1 </dev/null)
  ended=$?
  now=pass
  case $ended-$limit in
  0-*) ;;
  124-timeout | 143-timeout) now=fail note="no result within $patience s" ;;
  *) now=fail note=${note:-"exit code $ended"} ;;
  esac
  note=$(printf %s "${note##*"$nl"}" | tr -c ' -~' '?' | tr '\042\134' "'/")
  note=$(printf %.200s "$note")
  [ "$now" = "$verdict" ] || say "health command: $now${note:+: $note}"
  verdict=$now
  form=status=$now
  given note "$note"
  request "/v1/instances/$name/heartbeat" 5 "$form"
  case $status in
  404) return 1 ;;
  410 | 5?? | 000) ;; # a registration says so, too
  4??)
    reason=$(why)
    [ "$refused" = "$reason" ] || say "heartbeat refused: $reason"
    refused=$reason
    ;;
  esac
}

# ---- main

[ "${1-}" != -- ] || shift
if [ $# = 0 ]; then
  say "usage: rollcall.sh -- COMMAND [ARGUMENT...]"
  exit 2
fi
missing=''
client=curl
[ -n "$ROLLCALL_SERVICE" ] || missing="ROLLCALL_SERVICE is not set"
[ -n "$ROLLCALL_URL" ] || missing="ROLLCALL_URL is not set"
if ! command -v curl >/dev/null; then
  case $(wget --version 2>&1) in "GNU Wget 1"*) client=wget ;; *) client=busybox ;; esac
  command -v wget >/dev/null || missing="there is neither curl nor wget"
fi
if [ -n "$missing" ]; then
  say "$missing: running without Rollcall"
  exec "$@"
fi

others='HUP USR1 USR2 WINCH ALRM CONT TTIN TTOU'
for signal in $others; do
  # shellcheck disable=SC2064 # now
  trap "forward $signal" "$signal"
done
trap 'stop INT 130' INT
trap 'stop QUIT 131' QUIT
trap 'stop TERM 143' TERM

url=${ROLLCALL_URL%/}
case $url in *@*) shown=${url%%://*}://${url#*@} ;; *) shown=$url ;; esac # without a password
token=''
[ -z "$ROLLCALL_TOKEN" ] || token=$(printf %s "$ROLLCALL_TOKEN" | tr -d '[:space:]')
limit=timeout
timeout 1 true 2>/dev/null || limit=''
hold=$(duration ROLLCALL_HOLD "${ROLLCALL_HOLD:-5s}" 5s)
hold_ms=$(ms "$hold")
reassert=$(ms "$(duration ROLLCALL_REASSERT "${ROLLCALL_REASSERT:-10s}" 10s)")
[ "$reassert" -ge 500 ] || reassert=500
interval=$(ms "${ROLLCALL_INTERVAL:-5s}") || interval=5000 # Rollcall will refuse it
patience=$(ms "$ROLLCALL_TIMEOUT") || patience=$interval
patience=$(((patience + 999) / 1000))
longest=$reassert
[ -z "$ROLLCALL_HEALTH_CMD" ] || [ "$interval" -ge "$longest" ] || longest=$interval

port=${ROLLCALL_PORT:-$PORT}
address=${ROLLCALL_ADDRESS:-$FLY_PRIVATE_IP}
: "${address:=$(nomad NOMAD_HOST_ADDR_)}"
: "${address:=$(nomad NOMAD_ADDR_)}"
: "${address:=$POD_IP}"
boot=$ROLLCALL_BOOT
[ -n "$boot" ] || boot=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
encode "$boot"
ours="\"boot\":"
[ "$encoded" != "$boot" ] || ours="$ours\"$boot\""
nonce=$encoded
id=$ROLLCALL_ID
free='' # to register under when another container has the id; empty when the operator set the id
if [ -z "$id" ]; then
  if ported "$address"; then own=${address##*:}; else own=$port; fi
  host=$(uname -n)
  while [ ${#host} -gt 58 ]; do host=${host#?}; done # what tells it from others stands at the end
  id=$(printf %s "$ROLLCALL_SERVICE-$host${own:+-$own}" | tr '[:upper:]' '[:lower:]' | tr -c a-z0-9._- -)
  free=$id-$(od -An -N3 -tx1 /dev/urandom | tr -d ' \n')
fi
encode "$id"
name=$encoded
export ROLLCALL_ID="$id"

# A background command has /dev/null for its input, unless it is given another one. GNU
# env restores INT and QUIT.
(: <&0) 2>/dev/null || exec </dev/null
exec 9<&0
defaults=no
if env --default-signal=INT,QUIT true 2>/dev/null; then
  defaults=yes
  set -- env --default-signal=INT,QUIT "$@"
fi
exec "$@" <&9 9<&- &
app=$!
exec 9<&-
if [ -z "$stopping" ]; then
  keep_registered &
  agent=$!
fi

# A signal interrupts wait, whose result is then the signal's and not the command's.
# What is waited for again after its end may be unknown by then (127).
while :; do
  caught=''
  wait "$app" 2>/dev/null
  ended=$?
  { [ "$ended" = 127 ] && [ -n "$code" ]; } || code=$ended
  [ -n "$caught" ] || break
done
# shellcheck disable=SC2086 # a list
trap '' $others
trap 'finish "$call"; exit "$code"' INT QUIT TERM
finish "$agent"
if [ -z "$stopping" ]; then
  leave 0s 3 "@ is gone: the command ended with $code" &
  call=$!
  wait "$call"
fi
finish "$call"
exit "$code"
