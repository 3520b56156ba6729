package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"

	"rollcall/app"
)

// failure is the result of a probe that got no answer it could judge. ctx is the
// caller's: the probe's own is over after every timeout.
func failure(ctx context.Context, err error) app.Result {
	if e, ok := errors.AsType[*app.AddressError](err); ok {
		return failed(app.Forbidden, e.Error())
	}
	if ctx.Err() != nil {
		return failed(app.Inconclusive, "interrupted")
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return lookupFailure(e)
	}
	op, isOp := errors.AsType[*net.OpError](err)
	errno, isErrno := errors.AsType[syscall.Errno](err)
	switch {
	case isErrno && ours(errno):
		return failed(app.Inconclusive, errno.Error())
	case errno == syscall.ECONNREFUSED:
		return failed(app.Refused, "")
	case errno == syscall.ECONNRESET, errno == syscall.EPIPE, errno == syscall.ECONNABORTED:
		return failed(app.Reset, "")
	case errors.Is(err, errTooLong):
		return failed(app.BadAnswer, errTooLong.Error())
	case timedOut(err) && isOp && op.Op == "dial":
		return failed(app.TimedOut, "connecting")
	case timedOut(err):
		return failed(app.Stalled, "connected, but no whole answer")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return failed(app.ClosedEarly, "")
	case isErrno:
		return failed(app.Unreachable, errno.Error())
	case isOp:
		return failed(app.Unreachable, op.Err.Error())
	}
	return failed(app.BadAnswer, err.Error())
}

// ours reports whether an error is for want of something on this machine.
func ours(e syscall.Errno) bool {
	switch e {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL:
		return true
	default:
		return false
	}
}

func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// lookupFailure is the instance's own only if a name server has answered that the name has
// no address.
func lookupFailure(e *net.DNSError) app.Result {
	switch {
	case e.IsNotFound:
		return failed(app.Unresolvable, "")
	case e.IsTimeout:
		return failed(app.NameServerFailed, "the name server does not answer")
	}
	return failed(app.NameServerFailed, "the name server fails")
}

// maxDetail and maxWord are in bytes. A word is all that is ever quoted of an
// answer: it names the protocol somebody else's port speaks, and is too short to
// read strangers' secrets with.
const (
	maxDetail = 200
	maxWord   = 24
)

// printable returns s cut to maxDetail, with ? for all but printable ASCII.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), maxDetail)])
}

// beginning is the detail about an answer that cannot be of the protocol.
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
