package edge

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// body is what the client sends, watched: a request whose body has been asked for
// cannot be sent again. It stays open for the next attempt; ReverseProxy closes
// what is below it when the request is over.
type body struct {
	io.Reader
	in, out *http.Request
	asked   atomic.Bool
	broken  atomic.Bool // the client's side has failed
}

func (b *body) Read(p []byte) (int, error) {
	b.asked.Store(true)
	n, err := b.Reader.Read(p)
	switch {
	case err == io.EOF:
		for k := range b.out.Trailer { // announced before the body, known after it
			b.out.Trailer[k] = b.in.Trailer[k]
		}
	case err != nil:
		b.broken.Store(true)
	}
	return n, err
}

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
