package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"

	"rollcall/app"
)

// Failure translates the error of a connection, a request or a read into a result. ctx is
// the caller's context, without the timeout of the probe or attempt: once the caller has
// ended it, the result is inconclusive. An error of no known kind is a BadAnswer without a
// detail, because its text may quote the answer or the URL.
func Failure(ctx context.Context, err error) app.Result {
	if e, ok := errors.AsType[*AddressError](err); ok {
		return app.Result{Code: app.Forbidden, Detail: e.Error()}
	}
	if ctx.Err() != nil {
		return app.Result{Code: app.Inconclusive, Detail: "interrupted"}
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return lookupFailure(e)
	}
	errno, _ := errors.AsType[syscall.Errno](err)
	if r, ok := errnoFailure(errno); ok {
		return r
	}
	if timedOut(err) {
		return timeoutFailure(err)
	}
	return otherFailure(err, errno)
}

// lookupFailure counts against the instance only if a name server has answered that the
// name has no address.
func lookupFailure(e *net.DNSError) app.Result {
	switch {
	case e.IsNotFound:
		return app.Result{Code: app.Unresolvable}
	case e.IsTimeout:
		return app.Result{Code: app.NameServerFailed, Detail: "the name server does not answer"}
	}
	return app.Result{Code: app.NameServerFailed, Detail: "the name server fails"}
}

// errnoFailure returns the result of an error number that means the same in every phase of
// a connection.
func errnoFailure(errno syscall.Errno) (r app.Result, ok bool) {
	switch errno {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL:
		// This machine lacks files, memory or ports.
		return app.Result{Code: app.Inconclusive, Detail: errno.Error()}, true
	case syscall.ECONNREFUSED:
		return app.Result{Code: app.Refused}, true
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED:
		return app.Result{Code: app.Reset}, true
	default:
		return app.Result{}, false
	}
}

func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

func timeoutFailure(err error) app.Result {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return app.Result{Code: app.TimedOut, Detail: "connecting"}
	}
	return app.Result{Code: app.Stalled, Detail: "connected, but no whole answer"}
}

// otherFailure returns the result of an error that is neither a timeout nor one of
// errnoFailure. errno is 0 if err contains no error number.
func otherFailure(err error, errno syscall.Errno) app.Result {
	op, isOp := errors.AsType[*net.OpError](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return app.Result{Code: app.ClosedEarly}
	case errno != 0:
		return app.Result{Code: app.Unreachable, Detail: errno.Error()}
	case untrusted:
		return app.Result{Code: app.BadAnswer, Detail: "its certificate is not trusted"}
	case isOp:
		return app.Result{Code: app.Unreachable, Detail: op.Err.Error()}
	}
	return app.Result{Code: app.BadAnswer}
}
