#!/usr/bin/env bash
# Installs the missing programs that the tests and the linters need beyond Go: with
# apt-get on Debian and Ubuntu, as root or through sudo. On other systems it lists the
# missing programs and ends with 0, and the tests that need them are skipped. In CI a
# missing program is an error. Without a missing program the script prints nothing.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # the folders of daemons, which only root has in PATH

# program | Debian packages | Homebrew formula
needs='redis-server|redis-server|redis
memcached|memcached|memcached
luacheck|lua-check|luacheck
shellcheck|shellcheck|shellcheck
prometheus|prometheus|prometheus
prometheus-alertmanager|prometheus-alertmanager|alertmanager
make|make|make
gcc|gcc libc6-dev|gcc'

# tests/load measures these beside Rollcall: tests/install.sh bench.
if [ "${1:-}" = bench ]; then
  needs+='
haproxy|haproxy|haproxy
etcd|etcd-server|etcd
prometheus-blackbox-exporter|prometheus-blackbox-exporter|blackbox_exporter'
fi

# tests/containers starts a Docker engine of its own and makes images of installed
# programs; app/probe probes servers of Node and Python. Outside CI these tests run only
# where the programs are installed already.
if [ "${CI:-}" = true ]; then
  needs+='
dockerd|docker.io|docker
iptables|iptables|
ip|iproute2|
unshare|util-linux|
busybox|busybox-static|
curl|curl|curl
node|nodejs|node
foreman|ruby-foreman|
haproxy|haproxy|haproxy
nginx|nginx-light|nginx
caddy|caddy|caddy
python3|python3|python
zsh|zsh|zsh
fish|fish|fish
dig|bind9-dnsutils|bind
openssl|openssl|openssl'
fi

# missing prints the lines of the programs that are not on PATH.
missing() {
  while IFS='|' read -r program debian brew; do
    command -v "$program" >/dev/null || echo "$program|$debian|$brew"
  done <<<"$needs"
}

# column N prints one field of the missing lines, on one line.
column() { missing | cut -d'|' -f"$1" | paste -sd ' ' -; }

# install installs Debian packages with apt-get.
install() {
  local as_root=(env DEBIAN_FRONTEND=noninteractive) packages
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || return 1
    if [ -t 0 ]; then as_root=(sudo "${as_root[@]}"); else as_root=(sudo -n "${as_root[@]}"); fi
  fi
  read -ra packages <<<"$*"
  echo "tests/install.sh: installing ${packages[*]}" >&2
  # If a source is down, go on: the install fails if a package is missing because of it.
  "${as_root[@]}" apt-get -qq update >/dev/null 2>&1 || true
  "${as_root[@]}" apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "${packages[@]}" >/dev/null
}

# Programs without which single tests are skipped, where Debian has them.
if [ "${CI:-}" = true ] && grep -qs '^ID=debian' /etc/os-release; then
  for program in chromium docker-compose; do
    command -v "$program" >/dev/null || install "$program" || true
  done
  compgen -G '/usr/lib/*/sasl2/libplain.so' >/dev/null || install libsasl2-modules || true # for memcached -S
fi

[ -n "$(missing)" ] || exit 0
if command -v apt-get >/dev/null; then install "$(column 2)" || true; fi
[ -n "$(missing)" ] || exit 0

{
  echo "tests/install.sh: not found: $(column 1)"
  echo "  Debian, Ubuntu:  apt-get install $(column 2)"
  echo "  Homebrew:        brew install $(column 3)"
} >&2
if [ "${CI:-}" = true ]; then exit 1; fi
echo "  Going on without; the tests that need them are skipped and say so." >&2
