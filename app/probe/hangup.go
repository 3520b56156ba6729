package probe

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Limits on hanging up.
const (
	closeWait   = 100 * time.Millisecond // for a server that has answered to close the connection
	hangUpLimit = 5 * time.Second        // for a server to close the connection after Rollcall's FIN
	maxHangUps  = 1024                   // connections that wait for the server at once
	maxDiscard  = 1 << 20                // bytes that are read of a connection and discarded
)

// hangUps are the connections of finished probes that wait for their server. It is safe
// for concurrent use.
type hangUps struct {
	wg sync.WaitGroup

	mu    sync.Mutex
	open  map[net.Conn]struct{}
	ended bool
}

// hangUp closes the connection of a finished probe so that the application sees an orderly
// end. It does not wait for the server.
//
// A reset raises an error in a server that still reads or writes: Node exits, Python logs a
// traceback. A connection is therefore reset only after the server has closed it. All others
// end with FIN. hangUp then reads and discards the rest until the server closes the connection,
// because the kernel answers data for a closed socket with a reset.
//
// FIN costs more: the side that sends it first keeps a port in TIME_WAIT for 60 s, and
// connection tracking keeps an entry for 120 s. A table of 262,144 entries is then full at
// 2,200 probes a second, and a full table drops packets of every program on the host. After
// a reset the entry lives 10 s. Probes that get an answer therefore ask the server to close
// the connection (Connection: close, QUIT) and wait closeWait for it.
func (h *hangUps) hangUp(c *conn) {
	c.stop()
	tcp := c.Conn.(*net.TCPConn) //nolint:forcetypeassert // Rollcall dials tcp only
	switch {
	case c.serverClosed():
		reset(tcp)
	case errors.Is(tcp.SetDeadline(time.Time{}), net.ErrClosed): // by net/http
	case !h.add(tcp):
		tcp.Close()
	default:
		h.wg.Go(func() {
			defer h.remove(tcp)
			if c.closing && h.discard(tcp, closeWait) {
				reset(tcp)
				return
			}
			_ = tcp.CloseWrite()
			h.discard(tcp, hangUpLimit)
			tcp.Close()
		})
	}
}

// reset closes c without FIN.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// discard reads c until the server closes it, and reports whether it did within the limits.
func (h *hangUps) discard(c *net.TCPConn, limit time.Duration) (closed bool) {
	h.mu.Lock()
	if !h.ended {
		_ = c.SetDeadline(time.Now().Add(limit))
	}
	h.mu.Unlock()
	n, err := io.CopyN(io.Discard, c, maxDiscard)
	return n < maxDiscard && errors.Is(err, io.EOF)
}

// add reports whether c may wait for its server.
func (h *hangUps) add(c net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || len(h.open) == maxHangUps {
		return false
	}
	if h.open == nil {
		h.open = map[net.Conn]struct{}{}
	}
	h.open[c] = struct{}{}
	return true
}

func (h *hangUps) remove(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, c)
}

// end closes all connections at once, and those of later probes without waiting.
func (h *hangUps) end() {
	h.mu.Lock()
	h.ended = true
	for c := range h.open {
		_ = c.SetDeadline(longAgo)
	}
	h.mu.Unlock()
	h.wg.Wait()
}
