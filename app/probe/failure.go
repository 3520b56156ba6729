package probe

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"rollcall/app"
	"rollcall/app/outbound"
)

// failure translates an error into a result. ctx is the caller's context, because the probe's
// own has ended after every timeout. The detail of a bad answer is the text of the error. Errors
// of a probe quote at most one word of an answer.
func failure(ctx context.Context, err error) app.Result {
	r := outbound.Failure(ctx, err)
	if r.Code == app.BadAnswer && r.Detail == "" {
		r.Detail = err.Error()
	}
	if _, ok := errors.AsType[*handshakeError](err); ok && r.Conclusive() {
		r.Detail = "no TLS handshake; give a check without TLS if the port speaks none"
	}
	return r
}

// maxDetail and maxWord are in bytes. A probe quotes at most one word of an answer. A word names
// the protocol of a wrong port, and is too short to read secrets with.
const (
	maxDetail = 200
	maxWord   = 24
)

// printable returns s cut to maxDetail, with ? for everything except printable ASCII.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), maxDetail)])
}

// beginning returns the detail of an answer of another protocol.
func beginning(answer []byte) string { return "begins " + strconv.QuoteToASCII(firstWord(answer)) }

func firstWord(b []byte) string {
	b = b[:min(len(b), maxWord)]
	for i, c := range b {
		if c == ' ' || c == '\r' || c == '\n' {
			return string(b[:i])
		}
	}
	return string(b)
}
