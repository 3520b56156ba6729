package edge

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// body is the request's body. It records whether the transport has begun to read it, because
// such a request cannot be repeated. Close does nothing, so that the next attempt can read it;
// ReverseProxy closes the underlying body after the request. A nil body belongs to a request
// without a body.
type body struct {
	io.Reader
	in, out *http.Request
	client  *http.ResponseController
	timeout time.Duration // for the client to send more
	asked   atomic.Bool
	broken  atomic.Bool // reading from the client failed
	late    atomic.Bool // it failed by a timeout

	mu   sync.Mutex
	left bool // the handler has returned, and client must not be used
}

// Read reads from the client, which must send bytes within the timeout.
func (b *body) Read(p []byte) (int, error) {
	b.asked.Store(true)
	b.expect(time.Now().Add(b.timeout))
	n, err := b.Reader.Read(p)
	switch {
	case err == io.EOF:
		b.expect(time.Time{})          // net/http continues to read, to notice that the client leaves
		for k := range b.out.Trailer { // announced before the body, complete after it
			b.out.Trailer[k] = b.in.Trailer[k]
		}
	case err != nil:
		b.late.Store(timedOut(err))
		b.broken.Store(true)
	}
	return n, err
}

func (b *body) expect(deadline time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.left {
		_ = b.client.SetReadDeadline(deadline)
	}
}

// leave must be called before the handler returns, because the transport may still read.
func (b *body) leave() {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.left = true
	}
}

// again returns the body for a repetition by the transport itself, which repeats a request if
// the backend has closed the kept connection.
func (b *body) again() (io.ReadCloser, error) {
	if b.touched() {
		return nil, errBodySent
	}
	return b, nil
}

var errBodySent = errors.New("connection lost after part of the body was sent")

// Close keeps the body open for the next attempt.
func (b *body) Close() error { return nil }

func (b *body) touched() bool { return b != nil && b.asked.Load() }
func (b *body) failed() bool  { return b != nil && b.broken.Load() }

// buffers is the pool of buffers for copying answers.
var buffers bufferPool

type bufferPool struct{ sync.Pool }

// Get returns a buffer of 32 KiB.
func (b *bufferPool) Get() []byte {
	if p, ok := b.Pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

// Put returns a buffer to the pool.
func (b *bufferPool) Put(p []byte) { b.Pool.Put(&p) }
