package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// direct carries every call that this program makes to Rollcall. It ignores HTTP_PROXY and
// its kin: a proxy would get the token, and Rollcall would register the proxy's address.
var direct = newDirect(10 * time.Second)

func newDirect(connect time.Duration) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // by its documentation
	t.Proxy = nil
	dialer := net.Dialer{Timeout: connect, KeepAlive: 30 * time.Second}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return pipeConn{c}, nil
	}
	return t
}

// brokenPipes tells a SIGPIPE that this process caused, by a write to a closed connection,
// from one that another process sent. It is global because signals are.
var brokenPipes pipeWatch

type pipeWatch struct {
	writing sync.RWMutex // held for reading during each write
	own     atomic.Bool
}

func (w *pipeWatch) write(b []byte, write func([]byte) (int, error)) (int, error) {
	w.writing.RLock()
	defer w.writing.RUnlock()
	n, err := write(b)
	if errors.Is(err, syscall.EPIPE) {
		w.own.Store(true)
	}
	return n, err
}

// sent reports whether a SIGPIPE that has arrived is from another process. It waits for
// the writes under way.
func (w *pipeWatch) sent() bool {
	w.writing.Lock()
	defer w.writing.Unlock()
	return !w.own.Swap(false)
}

type pipeConn struct{ net.Conn }

func (c pipeConn) Write(b []byte) (int, error) { return brokenPipes.write(b, c.Conn.Write) }
