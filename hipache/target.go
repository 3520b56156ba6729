package hipache

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Target reads an entry of a list: where to connect to. Path, query and userinfo
// count for nothing, as in Hipache. It reports false for what no request should be
// sent to: no scheme, another one than http, no host, a port that is none.
func Target(entry string) (hostport string, ok bool) {
	u, err := url.Parse(strings.TrimSpace(entry))
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || strings.ContainsAny(u.Hostname(), "[]") {
		return "", false
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", false
	}
	return net.JoinHostPort(u.Hostname(), port), true
}
