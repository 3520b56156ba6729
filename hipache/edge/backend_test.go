package edge

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
)

func TestWhoIsToBlameForNoConnection(t *testing.T) {
	t.Parallel()
	syscallErr := func(e syscall.Errno) error {
		return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", e)}
	}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{syscallErr(syscall.ECONNREFUSED), true},
		{syscallErr(syscall.EHOSTUNREACH), true},
		{syscallErr(syscall.ETIMEDOUT), true},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, true},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, true},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsTimeout: true}}, false},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsTemporary: true}}, false},
		{syscallErr(syscall.EADDRNOTAVAIL), false},
		{syscallErr(syscall.EMFILE), false},
		{syscallErr(syscall.ENETUNREACH), false},
		{context.Canceled, false},
		{errors.New("anything"), false},
	} {
		if got := (&dialError{c.err}).blames(); got != c.want {
			t.Errorf("%v: got %t, want %t", c.err, got, c.want)
		}
	}
}
