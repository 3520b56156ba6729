package app

import (
	"fmt"
	"strings"
)

// maxWildcardLabels is the largest number of labels after "*." that Hipache finds: it cuts a
// requested name to its last six labels before it builds wildcards.
const maxWildcardLabels = 5

// NormalizeHost returns a vhost in the form in which the proxies look it up: a name, "*.name" or
// "*", in lower case, without a port or a trailing dot.
func NormalizeHost(host string) (string, error) {
	const want = "give a name such as shop.example.com, *.example.com or *"
	bad := func(problem string) (string, error) { return "", Invalid("host", problem, want) }
	h := lowerASCII(strings.TrimSuffix(host, "."))
	if strings.ContainsFunc(h, func(r rune) bool { return r >= 0x80 }) {
		return bad(fmt.Sprintf("is %.80q, and proxies look up the ASCII form (xn--…)", host))
	}
	switch {
	case strings.Contains(h, "://"):
		return bad(fmt.Sprintf("is %.80q, which is a URL", host))
	case strings.Count(h, ":") > 1:
		return bad(fmt.Sprintf("is %.80q, and proxies cannot look an IPv6 address up", host))
	case strings.Contains(h, ":"):
		return bad(fmt.Sprintf("is %.80q, and proxies look a vhost up without its port", host))
	}
	if h == "__ping__" {
		return bad("is __ping__, which the proxy answers by itself")
	}
	if host == "*" { // "*." is not "*": its name is empty
		return host, nil
	}
	name, wildcard := strings.CutPrefix(h, "*.")
	if !ValidHostName(name) {
		return bad(fmt.Sprintf("is %.80q, which is not a host name", host))
	}
	if wildcard && strings.Count(name, ".") >= maxWildcardLabels {
		return bad(fmt.Sprintf("is %.80q, and the proxy finds wildcards of at most %d labels", host, maxWildcardLabels))
	}
	return h, nil
}
