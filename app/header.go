package app

import (
	"fmt"
	"net/textproto"
	"slices"
	"strings"
)

// ownHeaders lists, by canonical name, the headers that the sender sets or that belong to the
// connection. The headers of Standard Webhooks begin with Webhook-.
var ownHeaders = []string{
	"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te",
	"Trailer", "Transfer-Encoding", "Upgrade", "User-Agent",
}

// Limits on the headers of a webhook or a check.
const (
	MaxHeaders     = 10
	maxHeaderValue = 4096 // bytes
)

// ParseHeader parses the value of a field, "Name: value". Its FieldError never contains the header's value, which may be
// a password or a token.
func ParseHeader(field, line string) (name, value string, err error) {
	name, value, found := strings.Cut(line, ":")
	name, value = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
	const want = "give a name and a value, such as Authorization: Bearer TOKEN"
	switch {
	case !found, value == "":
		return "", "", Invalid(field, "is not Name: value", want)
	case name == "", strings.ContainsFunc(name, notHeaderName):
		return "", "", Invalid(field, "has a name that HTTP does not allow", want)
	case slices.Contains(ownHeaders, name), strings.HasPrefix(name, "Webhook-"):
		return "", "", Invalid(field, "is "+name+", which Rollcall sets itself", "give another one, such as Authorization")
	case len(value) > maxHeaderValue:
		return "", "", Invalid(field, fmt.Sprintf("%s has %d bytes", name, len(value)), fmt.Sprintf("give at most %d", maxHeaderValue))
	case strings.ContainsFunc(value, notHeaderValue):
		return "", "", Invalid(field, name+" has characters other than visible ASCII", want)
	}
	return name, value, nil
}

func notHeaderName(r rune) bool {
	return notVisibleASCII(r) || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

func notHeaderValue(r rune) bool { return r > '~' || r < ' ' && r != '\t' }
