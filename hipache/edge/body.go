package edge

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// body is what the client sends, watched: a request whose body has been asked for
// cannot be sent again. It stays open for the next attempt; ReverseProxy closes
// what is below it when the request is over. A nil body is that of a request without.
type body struct {
	io.Reader
	in, out *http.Request
	client  *http.ResponseController
	timeout time.Duration // for the client to send more
	asked   atomic.Bool
	broken  atomic.Bool // the client's side has failed
	late    atomic.Bool // it has, because nothing came for too long

	mu   sync.Mutex
	left bool // the handler has returned, and client must not be used
}

func (b *body) Read(p []byte) (int, error) {
	b.asked.Store(true)
	b.expect(time.Now().Add(b.timeout))
	n, err := b.Reader.Read(p)
	switch {
	case err == io.EOF:
		b.expect(time.Time{})          // net/http goes on reading, to notice that the client leaves
		for k := range b.out.Trailer { // announced before the body, known after it
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

// leave must be called before the handler returns: the transport may still read.
func (b *body) leave() {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.left = true
	}
}

// again returns the body for the transport's own repetitions, which happen on
// connections that the backend had closed.
func (b *body) again() (io.ReadCloser, error) {
	if b.touched() {
		return nil, errBodySent
	}
	return b, nil
}

var errBodySent = errors.New("connection lost with the body sent in part")

func (b *body) Close() error { return nil }

func (b *body) touched() bool { return b != nil && b.asked.Load() }
func (b *body) failed() bool  { return b != nil && b.broken.Load() }

// buffers are lent to the copies of answers.
var buffers bufferPool

type bufferPool struct{ sync.Pool }

func (b *bufferPool) Get() []byte {
	if p, ok := b.Pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

func (b *bufferPool) Put(p []byte) { b.Pool.Put(&p) }
