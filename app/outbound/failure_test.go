package outbound_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"rollcall/app"
	"rollcall/app/outbound"
)

func fail(code app.Code, detail string) app.Result { return app.Result{Code: code, Detail: detail} }

func TestErrorsMapToCodes(t *testing.T) {
	t.Parallel()
	during := func(op string, errno syscall.Errno) error {
		return fmt.Errorf("wrapped: %w", &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError("call", errno)})
	}
	for _, c := range []struct {
		err  error
		want app.Result
	}{
		{during("dial", syscall.ECONNREFUSED), fail(app.Refused, "")},
		{during("dial", syscall.ETIMEDOUT), fail(app.TimedOut, "connecting")},
		{during("dial", syscall.EHOSTUNREACH), fail(app.Unreachable, "no route to host")},
		{during("dial", syscall.ENETUNREACH), fail(app.Unreachable, "network is unreachable")},
		{during("dial", syscall.EADDRNOTAVAIL), fail(app.Inconclusive, "cannot assign requested address")},
		{during("dial", syscall.EMFILE), fail(app.Inconclusive, "too many open files")},
		{during("read", syscall.ECONNRESET), fail(app.Reset, "")},
		{during("write", syscall.EPIPE), fail(app.Reset, "")},
		{during("read", syscall.ETIMEDOUT), fail(app.Stalled, "connected, but no whole answer")},
		{during("read", syscall.EHOSTUNREACH), fail(app.Unreachable, "no route to host")},
		{context.DeadlineExceeded, fail(app.Stalled, "connected, but no whole answer")},
		{os.ErrDeadlineExceeded, fail(app.Stalled, "connected, but no whole answer")},
		{io.EOF, fail(app.ClosedEarly, "")},
		{fmt.Errorf("body: %w", io.ErrUnexpectedEOF), fail(app.ClosedEarly, "")},
		{&net.DNSError{IsNotFound: true}, fail(app.Unresolvable, "")},
		{&net.DNSError{IsTimeout: true}, fail(app.NameServerFailed, "the name server does not answer")},
		{&net.DNSError{Err: "server misbehaving"}, fail(app.NameServerFailed, "the name server fails")},
		{&net.OpError{Op: "dial", Err: &net.AddrError{Err: "no suitable address"}}, fail(app.Unreachable, "no suitable address")},
		{errors.New("odd"), fail(app.BadAnswer, "")},
	} {
		if got := outbound.Failure(t.Context(), c.err); got != c.want {
			t.Errorf("%v: got %+v, want %+v", c.err, got, c.want)
		}
	}
}

func TestAnErrorAfterTheCallerHasLeftIsInconclusive(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, want := outbound.Failure(ctx, io.EOF), fail(app.Inconclusive, "interrupted"); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := outbound.Failure(ctx, &outbound.AddressError{}); got.Code != app.Forbidden {
		t.Errorf("a refused address gives %+v, want it forbidden", got)
	}
}
