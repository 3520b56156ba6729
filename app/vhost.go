package app

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxWildcardLabels is the largest number of labels after "*." that Hipache finds: it cuts a
// requested name to its last six labels before it builds wildcards.
const maxWildcardLabels = 5

// NormalizeHost returns a vhost in the form in which the proxies look it up: a name, "*.name" or
// "*", in lower case, without a port or a trailing dot.
func NormalizeHost(host string) (string, error) {
	const want = "give a name such as shop.example.com, *.example.com or *"
	h := lowerASCII(strings.TrimSuffix(host, "."))
	name, wildcard := strings.CutPrefix(h, "*.")
	if problem := hostProblem(host, h); problem != "" {
		return "", Invalid("host", problem, want)
	}
	if host == "*" { // "*." is not "*": its name is empty
		return host, nil
	}
	if !ValidHostName(name) {
		return "", Invalid("host", fmt.Sprintf("is %.80q, which is not a host name", host), want)
	}
	if wildcard && strings.Count(name, ".") >= maxWildcardLabels {
		return "", Invalid("host", fmt.Sprintf("is %.80q, and the proxy finds wildcards of at most %d labels", host, maxWildcardLabels), want)
	}
	return h, nil
}

// hostProblem explains why proxies cannot look up some text that contains a host name. It returns "" for other text.
func hostProblem(given, host string) string {
	reason := ""
	switch {
	case host == "__ping__":
		return "is __ping__, which the proxy answers by itself"
	case strings.ContainsFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }):
		reason = "and proxies look up the ASCII form (xn--…)"
	case strings.Contains(host, "://"):
		reason = "which is a URL"
	case strings.Count(host, ":") > 1:
		reason = "and proxies cannot look an IPv6 address up"
	case strings.Contains(host, ":"):
		reason = "and proxies look a vhost up without its port"
	default:
		return ""
	}
	return fmt.Sprintf("is %.80q, %s", given, reason)
}
