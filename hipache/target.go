package hipache

import (
	"cmp"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Target returns the address that an entry of a list names. It ignores path, query and
// userinfo, as Hipache does. It reports false for an entry that must not get requests: without
// scheme or host, with another scheme than http, or with an invalid port.
func Target(entry string) (hostport string, ok bool) {
	u, err := url.Parse(strings.TrimSpace(entry))
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || strings.ContainsAny(u.Hostname(), "[]") {
		return "", false
	}
	port := cmp.Or(u.Port(), "80")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", false
	}
	return net.JoinHostPort(u.Hostname(), port), true
}
