#!/bin/sh
# rollcall.sh runs a command as the entrypoint of a container and keeps it registered with
# Rollcall while it runs:
#
#   ENTRYPOINT ["rollcall.sh", "--", "my-app", "arg"]
#
# It needs a POSIX shell, curl or wget, and env, od, sed, sleep, tr and uname; also setsid
# to give the command a process group of its own, and for a token nc with busybox's wget,
# or rm with GNU wget. It leaves no file behind.
# `rollcall run -- my-app arg` does the same in images without a shell. Environment:
#
#   ROLLCALL_URL         address of Rollcall's API; without it the command only runs
#   ROLLCALL_TOKEN       bearer token for the API
#   ROLLCALL_SERVICE     name of the service
#   ROLLCALL_PORT        port of the command (default: $PORT)
#   ROLLCALL_ADDRESS     host or host:port at which others reach the command (default: the
#                        address from the platform, else the source address of the calls)
#   ROLLCALL_HOST        its vhosts, separated by commas or spaces
#   ROLLCALL_TAG         separated by commas
#   ROLLCALL_META        name=value, separated by commas
#   ROLLCALL_EXPECT      as in a registration; a status and a text on a line each
#   ROLLCALL_HEALTH_HEADER
#                        as in a registration; a header on a line
#   ROLLCALL_{HEALTH,HEALTH_HOST,HEALTH_METHOD,INTERVAL,TIMEOUT,RISE,FALL,GRACE,FORGET}
#   ROLLCALL_{TLS_SKIP_VERIFY,TLS_SERVER_NAME,WEIGHT,FAIL_OPEN,REPLACES}
#                        as in a registration
#   ROLLCALL_ID          default: service-hostname-port, and a suffix when another
#                        container has that id
#   ROLLCALL_BOOT        default: a nonce of this start
#   ROLLCALL_HEALTH_CMD  run by sh every interval; its result is reported as a heartbeat
#   ROLLCALL_HOLD        drain period, in which the command still serves (5s)
#   ROLLCALL_REASSERT    time between registrations, in case Redis loses one (10s)
#   ROLLCALL_STOP_SIGNAL signals that drain first, besides TERM, INT and QUIT: WINCH,USR1
#
# The script starts the command at once. The command gets its id in ROLLCALL_ID, but neither
# ROLLCALL_TOKEN nor a password in ROLLCALL_URL. TERM, INT and QUIT drain the command before
# they reach it. A second one and all other signals reach it at once. The script exits with the
# exit code of the command. Calls to Rollcall use no proxy, no .curlrc and no .wgetrc.

# shellcheck disable=SC2317 # functions are called by traps, and by a name in a variable
set -f # a vhost such as *.example.com is not a file pattern
nl='
'

# A subshell, because the command must not get the SIGPIPE of a closed stderr.
say() (printf 'rollcall: %s\n' "$*" >&2)

# ---- the command and its signals

app='' agent='' call='' code='' stopping='' hurry='' caught='' terminal=''

# started sets app or agent from $! if a signal has interrupted the script between a start
# and its assignment.
started() {
  : "${app:=$!}"
  [ "$app" = "$!" ] || : "${agent:=$!}"
}

# interrupts notes that a signal has interrupted the wait for the command. If the shell has
# already reaped the command, the result of the wait is the command's.
interrupts() {
  started
  { [ -z "$app" ] || ! kill -0 "$app" || caught=1; } 2>/dev/null
}

# pass sends the command a signal. On a terminal, the signals of the terminal go to the group
# of the command. Without one, a shell starts a background command with INT and QUIT ignored,
# and a shell script cannot restore them: a command that ignores them gets TERM instead.
pass() {
  [ -n "$app" ] || return 0
  if [ -n "$terminal" ]; then
    until command=$(child "$app") && [ -n "$command" ]; do kill -0 "$app" || return 0; done
    case $1 in
    INT | QUIT | WINCH) kill "-$1" "-$command" ;;
    *) kill "-$1" "$command" ;;
    esac
    return
  fi
  ignored=''
  case $1-$defaults in INT-no | QUIT-no) ignored=$(sed -n 's/^SigIgn:.*\(.\)$/\1/p' "/proc/$app/status") ;; esac
  case $1-$ignored in
  INT-[2367abef] | QUIT-[4-7c-f]) kill -TERM "$app" ;;
  *) kill "-$1" "$app" ;;
  esac
} 2>/dev/null

forward() {
  interrupts
  pass "$1"
}

# stop drains the command, then forwards the signal. A second signal is forwarded at once.
stop() {
  interrupts
  if [ -z "$app" ]; then
    case $1 in INT) exit 130 ;; QUIT) exit 131 ;; *) exit 143 ;; esac
  fi
  if [ -n "$stopping" ]; then
    hurry=1
    pass "$1"
    return
  fi
  stopping=1
  say "$1: draining $id"
  finish "$agent"
  drain &
  call=$!
  while [ -z "$hurry" ] && kill -0 "$call" 2>/dev/null; do wait "$call"; done
  [ -n "$hurry" ] || pass "$1"
}

# parents prints every process with its parent.
parents() {
  set +f
  sed -n 's/^\([0-9]*\) (.*) . \([0-9]*\) .*/\1 \2/p' /proc/[0-9]*/stat 2>/dev/null
  set -f
}

# child prints a child of a process.
child() { parents | sed -n "s/ $1\$//p" | sed -n 1p; }

# stop_signals prints the signals of ROLLCALL_STOP_SIGNAL that are in a list, by the
# names of the list.
stop_signals() {
  printf %s "$ROLLCALL_STOP_SIGNAL" | tr , "\n" | tr "[:lower:]" "[:upper:]" | tr -d ' \t' | while read -r item || [ -n "$item" ]; do
    signal=${item#SIG}
    case $signal in
    '') continue ;;
    RTMIN | RTMIN+[0-9] | RTMIN+[12][0-9] | RTMIN+30) signal=${signal#RTMIN} signal=$((34 + ${signal:-0})) ;;
    RTMAX | RTMAX-[0-9] | RTMAX-[12][0-9] | RTMAX-30) signal=${signal#RTMAX} signal=$((64 + ${signal:-0})) ;;
    [1-9] | [12][0-9] | 3[01]) signal=$(kill -l "$signal") signal=${signal#SIG} ;;
    esac 2>/dev/null
    case " $1 " in
    *" $signal "*) printf '%s ' "$signal" ;;
    *) say "ROLLCALL_STOP_SIGNAL: $item is not a signal that can be caught; ignored" ;;
    esac
  done
}

# finish kills a process of this script and all its descendants. Without job control there is
# no process group to signal, so finish finds them by their parents. It stops each first, so
# that it starts no further process. It kills children before parents: a stopped group gets HUP
# when its last parent ends, and wget would open a log.
finish() {
  { [ -n "$1" ] && kill -s STOP "$1"; } 2>/dev/null || return 0
  root=$1
  family=" $1 "
  before=''
  while [ "$family" != "$before" ]; do
    before=$family
    # shellcheck disable=SC2046 # pairs of a process and its parent
    set -- $(parents)
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

# on_terminal reports whether the script has a terminal, and is in its foreground.
on_terminal() {
  { [ -t 0 ] && [ -t 2 ] && read -r stat <"/proc/$$/stat"; } || return
  # shellcheck disable=SC2086 # state, parent, group, session, terminal and its foreground group
  set -- ${stat##*) }
  [ "$3" = "$6" ]
}

# misspelt logs each variable that differs from a known one by one letter, or by two swapped
# neighbours.
misspelt() {
  for given; do
    case " $(printf %s "$known" | tr -s '\n' ' ') " in *" $given "*) continue ;; esac
    for name in $known; do
      a=$given b=$name
      while [ "${a%"${a#?}"}" = "${b%"${b#?}"}" ] && [ -n "$a" ]; do a=${a#?} b=${b#?}; done
      while [ "${a#"${a%?}"}" = "${b#"${b%?}"}" ] && [ -n "$a" ]; do a=${a%?} b=${b%?}; done
      case $a,$b in
      , | ?, | ,? | ?,?) ;;
      ??,??) [ "${a#?}${a%?}" = "$b" ] || continue ;;
      *) continue ;;
      esac
      say "there is no variable ROLLCALL_$given; did you mean ROLLCALL_$name?"
      break
    done
  done
}

# ---- calls

# request makes a call: request PATH SECONDS [FORM]. It posts the form if there is one. It sets
# $status to the status of the answer, 000 without an answer, and $answer to the body or the
# reason why there is no answer.
request() {
  answer=$("send_$client" "$@" 2>&1)
  status=$?
  case $client-$answer in
  curl-*)
    status=${answer##*"$nl"status:}
    answer=${answer%"$nl"status:*}
    answer=${answer#"curl: ("*") "}
    ;;
  nc-*)
    case $answer in HTTP/[0-9]*) status=${answer#* } ;; *) status=000 ;; esac
    ;;
  *HTTP/[0-9]*) [ "$status" = 0 ] && status=200 || status=${answer#*HTTP/[0-9]* } ;;
  *) [ "$status" = 0 ] && status=200 || status=000 ;;
  esac
  status=${status%%[!0-9]*}
  : "${status:=000}"
}

# Every user can read command lines: curl gets the token, the form and the URL, which may
# contain secrets, through pipes.
send_curl() {
  printf '%s\n%s\n%s\n' "$url$1" "$token" "${3-}" |
    sed 's/[\\"]/\\&/g; 1s/.*/url = "&"/; 2s/..*/header = "Authorization: Bearer &"/; 3s/.*/'${3+data}' = "&"/; /^ = "/d' |
    curl -q -sS -K - --noproxy '*' --connect-timeout 2 -m "$2" -w "${nl}status:%{http_code}"
}

# GNU wget takes a header only from a file: descriptor 8 is an open file without a name.
send_wget() {
  config=--no-config
  [ -z "$token" ] || config=--config=/proc/self/fd/8
  # shellcheck disable=SC2086 # nothing, or a command
  printf '%s\n' "$url$1" | SYSTEM_WGETRC=/dev/null $limit ${limit:+"$2"} wget "$config" -i - --no-proxy -nv -S -O - \
    --auth-no-challenge --content-on-error -t 1 --max-redirect=0 --connect-timeout=2 --dns-timeout=2 --read-timeout="$2" ${3+--post-data "$3"}
}

# keep_token opens the file with the token for wget. A container with a read-only file system
# has /dev/shm.
keep_token() {
  for file in "${TMPDIR:-/tmp}/.rollcall-$$" "/dev/shm/.rollcall-$$"; do
    (umask 077 && set -C && printf 'header = Authorization: Bearer %s\n' "$token" >"$file") 2>/dev/null || continue
    exec 8<"$file"
    rm "$file"
    return
  done
  return 1
}

# The wget of busybox takes a header only from its command line, and its proxy from the
# environment.
# shellcheck disable=SC2086 # nothing, or a command
send_busybox() { without_proxy $limit ${limit:+"$2"} wget -q -O - ${3+--post-data "$3"} "$url$1"; }

without_proxy() (
  unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy
  "$@"
)

# nc replaces the wget of busybox: it does not show the token, and it prints the body of an
# error. At the end of its input nc would close the connection: a sleep keeps the input open
# until nc has ended.
send_nc() {
  server=${url#*://}
  prefix=${server#"${server%%/*}"}
  server=${server%%/*}
  case $server in *]:* | [!\[]*:*) at=${server##*:} to=${server%:*} ;; *) at=80 to=$server ;; esac
  to=${to#\[}
  {
    printf '%s %s HTTP/1.0\r\nHost: %s\r\n' "$([ $# = 3 ] && echo POST || echo GET)" "$prefix$1" "$server"
    [ -z "$token" ] || printf 'Authorization: Bearer %s\r\n' "$token"
    [ $# -lt 3 ] || printf 'Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %s\r\n' "${#3}"
    printf '\r\n%s' "${3-}"
    exec sleep "$2"
  } | {
    # shellcheck disable=SC2086 # nothing, or a command
    $limit ${limit:+"$2"} nc "${to%]}" "$at"
    read -r stat <"/proc/self/stat"
    own=${stat%% *}
    # shellcheck disable=SC2086 # state, parent
    set -- ${stat##*) }
    for sibling in $(parents | sed -n "s/ $2\$//p"); do
      [ "$sibling" = "$own" ] || kill "$sibling"
    done
  }
}

# field prints a text from the answer.
field() { printf '%s\n' "$answer" | sed -n "s/\\\\\"/'/g; s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

# why prints the reason why the last call failed.
why() {
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

# retry repeats a call that Rollcall answers with 5xx, as while it cannot reach its Redis.
retry() {
  for pause in 500 500 0; do
    request "$@"
    case $status-$pause in 5??-500) nap "$pause" ;; *) break ;; esac
  done
}

# remove takes the command out of service: remove PERIOD SECONDS MESSAGE, where @ in the message
# is replaced by the id. Rollcall answers at the end of the drain period. The agent may have
# registered the command under the free id. An instance of another container stays. remove
# fails, with the reason in $status and $answer, if the command may still be in service.
remove() {
  elsewhere=''
  for own in "$id" $free; do
    encode "$own"
    name=$encoded
    retry "/v1/instances/$name" 3
    case $status-$answer in
    2??-*"$ours"* | 40[13]-*)
      retry "/v1/instances/$name/drain?hold=$1&boot=$nonce" "$2" ''
      [ "$status" != 422 ] || retry "/v1/instances/$name/drain?hold=$1" "$2" '' # an older Rollcall
      ;;
    2??-*) status=409 ;;
    esac
    case $status in 404) ;; 409) elsewhere=$own ;; *) break ;; esac
  done
  case $status-$elsewhere in
  2??-*) say "${3%%@*}$own${3#*@}" ;;
  40[49]-?*) say "$elsewhere was started anew elsewhere: left alone" ;;
  404-) ;; # it was not registered
  *) return 1 ;;
  esac
}

# drain takes the command out of service, and repeats the call while Rollcall does not answer:
# the replica that received it may die. drain ends with the drain period even if every call
# failed: requests in flight need the time.
drain() {
  # shellcheck disable=SC2086 # a list
  trap '' TSTP $others
  nap "$drain_ms" &
  timer=$!
  began=$(uptime)
  left=$drain_period
  until remove "$left" $((drain_ms / 1000 + 3 - ($(uptime) - began))) "drained @"; do
    case $status in 000 | 2?? | 408 | 425 | 429 | 5??) nap 500 ;; *) wait "$timer" ;; esac
    left=$(((drain_ms + 999) / 1000 - ($(uptime) - began)))s
    if [ "${left%s}" -lt 0 ] || ! kill -0 "$timer" 2>/dev/null; then
      say "could not drain $own: $(why)"
      return
    fi
  done
  case $left-$status in # a repeated call names the rest in whole seconds, which may be too short
  "$drain_period"-*) ;;
  *-2??) wait "$timer" ;;
  esac
}

# uptime prints the age of the machine in seconds.
uptime() { sed 's/[. ].*//' /proc/uptime; }

# ---- what is registered

# encode sets $encoded to its argument, with every byte percent-encoded if one of them needs it.
encode() {
  encoded=$1
  case $1 in
  *[!A-Za-z0-9._~/:-]*) encoded=$(printf %s "$1" | od -An -v -tx1 | tr -d '\n' | tr ' ' %) ;;
  esac
}

# add appends a field to the form: add FIELD VALUE. given does so if the value is not empty.
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
  given health_host "$ROLLCALL_HEALTH_HOST"
  given health_method "$ROLLCALL_HEALTH_METHOD"
  given tls_skip_verify "$ROLLCALL_TLS_SKIP_VERIFY"
  given tls_server_name "$ROLLCALL_TLS_SERVER_NAME"
  given interval "$ROLLCALL_INTERVAL"
  given timeout "$ROLLCALL_TIMEOUT"
  given rise "$ROLLCALL_RISE"
  given fall "$ROLLCALL_FALL"
  given grace "$ROLLCALL_GRACE"
  given forget "$ROLLCALL_FORGET"
  given weight "$ROLLCALL_WEIGHT"
  given fail_open "$ROLLCALL_FAIL_OPEN"
  # shellcheck disable=SC2153 # not misspelt
  list host ", $nl" "$ROLLCALL_HOST"
  list tag , "$ROLLCALL_TAG"
  list meta , "$ROLLCALL_META"
  list expect "$nl" "$ROLLCALL_EXPECT"
  list health_header "$nl" "$ROLLCALL_HEALTH_HEADER"
}

# nomad prints the address with the label http, or else the only one.
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

# ecs asks Amazon ECS for the address of the task. In bridge mode the task has no address that
# others can reach.
ecs() {
  task=$(
    case $client in
    curl) curl -q -sS --noproxy '*' -m 5 "$1" ;;
    *) without_proxy $limit ${limit:+5} wget -q -O - "$1" ;;
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

# has_port reports whether an address has a port.
has_port() { case $1 in *]:*) ;; *:*:*) return 1 ;; *:*) ;; *) return 1 ;; esac }

# ---- time, in milliseconds

# ms prints a Go duration. It fails if its argument is not one.
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
    say "$1 is '$2', which is not a duration such as 5s: using $3"
    printf %s "$3"
  fi
}

nap() { sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))" 2>/dev/null || sleep $(($1 / 1000 + 1)); }

# jitter shortens a time by up to a quarter, so that instances that started together do not call
# together.
jitter() { printf %s $(($1 - $1 * $(od -An -N1 -tu1 /dev/urandom) / 1024)); }

# ---- the agent, which keeps the command registered

keep_registered() {
  # shellcheck disable=SC2086 # a list
  trap '' TSTP $others # they are for the command
  fields
  fixed=$form
  backoff=500
  last_logged=''
  result=pass
  refused=''
  while kill -0 $$ 2>/dev/null; do
    [ "$last_logged" = draining ] || register
    if [ -z "$registered" ] || [ -z "$ROLLCALL_HEALTH_CMD" ]; then
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

# register registers the command. It sets pause, the time to the next registration, and
# registered if Rollcall has accepted this one.
register() {
  registered=''
  if [ -z "$address" ] && [ -n "$ECS_CONTAINER_METADATA_URI_V4" ]; then
    address=$(ecs "$ECS_CONTAINER_METADATA_URI_V4")
  fi
  form=$fixed
  given address "$address"
  has_port "$address" || given port "$port"
  request /v1/register 10 "$form"
  case $status-$answer in
  2??-*'"id":'*)
    registered=1
    backoff=500
    pause=$reassert
    case $answer in
    *'"new":true'*) [ "$pause" -lt 1000 ] || pause=1000 ;; # detect early another container with the same id or address
    esac
    pause=$(jitter "$pause")
    case $last_logged-$answer in
    registered-*'"new":true'*) say "Rollcall had lost $id: registered it again" ;;
    registered-*) ;;
    *) say "registered $id at $(field address)" ;;
    esac
    last_logged=registered
    ;;
  410-*)
    say "$id is draining: not registered again by this start"
    last_logged=draining
    pause=30000
    ;;
  000-* | 2??-* | 408-* | 425-* | 429-* | 5??-*)
    [ "$last_logged" = unavailable ] || say "no registration at $shown, retrying: $(why)"
    last_logged=unavailable
    pause=$(jitter "$backoff")
    backoff=$((backoff * 2))
    [ "$backoff" -lt "$longest" ] || backoff=$longest
    ;;
  *)
    pause=30000
    [ "$status" != 409 ] || pause=$reassert # the holder may end soon
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
    [ "$last_logged" = "$reason" ] || say "registration refused, trying again every $(((pause + 500) / 1000)) s: $reason"
    last_logged=$reason
    ;;
  esac
}

# report runs the health command and reports its result. It fails if Rollcall does not have the
# instance.
report() {
  note=$($limit ${limit:+"$health_timeout"} sh -c "$ROLLCALL_HEALTH_CMD" 2>&1 </dev/null 8<&-)
  ended=$?
  now=pass
  case $ended-$limit in
  0-*) ;;
  124-timeout | 143-timeout) now=fail note="no result within $health_timeout s" ;;
  *) now=fail note=${note:-"exit code $ended"} ;;
  esac
  note=$(printf %s "${note##*"$nl"}" | tr -c ' -~' '?' | tr '\042\134' "'/")
  note=$(printf %.200s "$note")
  [ "$now" = "$result" ] || say "health command: $now${note:+: $note}"
  result=$now
  form=status=$now
  given note "$note"
  request "/v1/instances/$name/heartbeat" 5 "$form"
  case $status in
  404) return 1 ;;
  410 | 5?? | 000) ;; # the next registration logs it
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
known='URL TOKEN SERVICE PORT HOST ADDRESS ID BOOT TAG META WEIGHT REPLACES FAIL_OPEN HEALTH
  HEALTH_CMD HEALTH_HOST HEALTH_METHOD HEALTH_HEADER TLS_SKIP_VERIFY TLS_SERVER_NAME EXPECT INTERVAL TIMEOUT RISE FALL GRACE FORGET HOLD REASSERT ENV_FILE STOP_SIGNAL'
# shellcheck disable=SC2046 # a list
misspelt $(env | sed -n 's/^ROLLCALL_\([A-Za-z0-9_]*\)=.*/\1/p')

# The command gets neither the token nor a password in the URL.
token=$(printf %s "$ROLLCALL_TOKEN" | tr -d '[:space:]')
unset ROLLCALL_TOKEN
url=${ROLLCALL_URL%/}
server=${url#*://}
login=${server%%[/?#]*}
case $login in
*@*)
  shown=${url%"$server"}${login##*@}${server#"$login"}
  export ROLLCALL_URL="$shown"
  ;;
*) login='' shown=$url ;;
esac

missing=''
client=curl
if ! command -v curl >/dev/null; then
  case $(wget --version 2>&1)-$url in
  "GNU Wget 1"*) client=wget ;;
  *-https:*) client=busybox ;;
  *) if command -v nc >/dev/null; then client=nc; else client=busybox; fi ;;
  esac
  command -v wget >/dev/null || missing="there is neither curl nor wget"
fi
case $client-${token:+token}-${login:+login} in
busybox-token-* | busybox-*-login | nc-*-login)
  missing="busybox wget would show ROLLCALL_TOKEN or the password of ROLLCALL_URL in the process list; install curl or GNU wget"
  ;;
esac
case $client-$token in
wget-?*) keep_token || missing="there is no directory for a file with ROLLCALL_TOKEN; set TMPDIR, or install curl" ;;
esac
[ -n "$ROLLCALL_SERVICE" ] || missing="ROLLCALL_SERVICE is not set"
[ -n "$ROLLCALL_URL" ] || missing="ROLLCALL_URL is not set"
if [ -n "$missing" ]; then
  say "$missing: running without Rollcall"
  exec "$@" 8<&-
fi

# All signals that can be caught, except CHLD, and except the signals of a terminal if there is one.
! on_terminal || terminal=1
others='HUP ILL TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM 16 CONT URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS'
[ -n "$terminal" ] || others="$others TSTP TTIN TTOU"
signal=34
while [ "$signal" -le 64 ]; do
  others="$others $signal"
  signal=$((signal + 1))
done
for signal in $others; do
  # shellcheck disable=SC2064 # now
  trap "forward $signal" "$signal"
done
for signal in INT QUIT TERM $(stop_signals "INT QUIT TERM $others"); do
  # shellcheck disable=SC2064 # now
  trap "stop $signal" "$signal"
done

limit=timeout
timeout 1 true 2>/dev/null || limit=''
drain_period=$(duration ROLLCALL_HOLD "${ROLLCALL_HOLD:-5s}" 5s)
drain_ms=$(ms "$drain_period")
reassert=$(ms "$(duration ROLLCALL_REASSERT "${ROLLCALL_REASSERT:-10s}" 10s)")
[ "$reassert" -ge 500 ] || reassert=500
interval=$(ms "${ROLLCALL_INTERVAL:-5s}") || interval=5000 # Rollcall refuses the registration
health_timeout=$(ms "$ROLLCALL_TIMEOUT") || health_timeout=$interval
health_timeout=$(((health_timeout + 999) / 1000))
longest=$reassert
[ -z "$ROLLCALL_HEALTH_CMD" ] || [ "$interval" -ge "$longest" ] || longest=$interval

case $ROLLCALL_PORT in *://*) ROLLCALL_PORT='' ;; esac # a link to a service called rollcall
port=${ROLLCALL_PORT:-$PORT}
address=${ROLLCALL_ADDRESS:-$FLY_PRIVATE_IP}
: "${address:=$(nomad NOMAD_HOST_ADDR_)}"
: "${address:=$(nomad NOMAD_ADDR_)}"
: "${address:=$POD_IP}"
# shellcheck disable=SC2153 # not misspelt
boot=$ROLLCALL_BOOT
[ -n "$boot" ] || boot=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
encode "$boot"
ours="\"boot\":"
[ "$encoded" != "$boot" ] || ours="$ours\"$boot\""
nonce=$encoded
id=$ROLLCALL_ID
free='' # replaces the id if another container has it; empty if the operator set the id
if [ -z "$id" ]; then
  if has_port "$address"; then own=${address##*:}; else own=$port; fi
  host=$(uname -n)
  while [ ${#host} -gt 58 ]; do host=${host#?}; done # host names differ at their end
  id=$(printf %s "$ROLLCALL_SERVICE-$host${own:+-$own}" | tr '[:upper:]' '[:lower:]' | tr -c a-z0-9._- -)
  free=$id-$(od -An -N3 -tx1 /dev/urandom | tr -d ' \n')
fi
encode "$id"
name=$encoded
export ROLLCALL_ID="$id"

# On a terminal, a shell with job control is the parent of the command. The command runs
# in the background, so that Ctrl-C reaches this script, which drains first. If the command
# reads the terminal, the kernel stops it, and the shell moves it to the foreground. The shell
# itself needs the foreground for a moment to get job control, and then stops. Ctrl-Z has no
# effect: no process could continue the container.
# shellcheck disable=SC2016 # for the other shell
attend='
set -m
for signal in INT QUIT HUP WINCH; do trap "kill -s $signal $PPID" "$signal"; done
trap : TERM TSTP
[ -z "${BASH_VERSION-}" ] || trap : CHLD # bash keeps waiting for a command that has stopped
kill -s STOP $$
"$@" &
app=$!
while :; do
  wait "$app"
  code=$?
  { read -r stat <"/proc/$app/stat"; } 2>/dev/null || break
  case ${stat##*) } in
  T*)
    fg >/dev/null
    code=$?
    ;;
  esac
  kill -0 "$app" 2>/dev/null || break
done
wait "$app" 2>/dev/null
again=$?
[ "$again" = 127 ] || code=$again
exit "$code"
'
# Without job control, the default input of a background command is /dev/null. setsid gives the
# command a group of its own, and GNU env restores INT and QUIT.
defaults=no
if [ -n "$terminal" ]; then
  set -m
  sh -c "$attend" rollcall.sh "$@" 8<&- &
  app=$!
  fg >/dev/null
  bg >/dev/null
  set +m
  trap '' TSTP
else
  (: <&0) 2>/dev/null || exec </dev/null
  exec 9<&0
  if command -v setsid >/dev/null; then
    set -- setsid "$@"
  else
    case $1 in *=*) set -- sh -c 'exec "$@"' rollcall.sh "$@" ;; esac # env reads a=b as a variable
  fi
  if env --default-signal=INT,QUIT true 2>/dev/null; then
    defaults=yes
    set -- env --default-signal=INT,QUIT "$@"
  fi
  exec "$@" <&9 9<&- 8<&- &
  app=$!
  exec 9<&-
fi
if [ -z "$stopping" ]; then
  keep_registered &
  agent=$!
fi

# A signal interrupts wait. The result is then that of the signal, not that of the command.
while :; do
  caught=''
  wait "$app" 2>/dev/null
  ended=$?
  [ -n "$caught" ] || break
done
# shellcheck disable=SC2086 # a list
trap '' INT QUIT TERM TSTP $others
wait "$app" 2>/dev/null
code=$?
[ "$code" != 127 ] || code=$ended # unknown if the shell has forgotten its child
trap 'finish "$call"; exit "$code"' INT QUIT TERM
finish "$agent"
if [ -z "$stopping" ]; then
  { remove 0s 3 "@ is gone: the command ended with $code" || say "could not drain $own: $(why)"; } &
  call=$!
  wait "$call"
fi
finish "$call"
exit "$code"
