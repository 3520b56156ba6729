//go:build unix

package entrypoint

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// brokenPipes distinguishes a SIGPIPE that this process caused, by a write to a closed connection, from one that
// another process sent. It is global because signals are.
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

// sent reports whether the last SIGPIPE came from another process. It waits for the writes in progress.
func (w *pipeWatch) sent() bool {
	w.writing.Lock()
	defer w.writing.Unlock()
	return !w.own.Swap(false)
}

// pipeConn is a connection whose writes are noted in brokenPipes.
type pipeConn struct{ net.Conn }

func (c pipeConn) Write(b []byte) (int, error) { return brokenPipes.write(b, c.Conn.Write) }
