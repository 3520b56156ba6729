package edge

import (
	"bufio"
	"context"
	"net"
	"net/http"
)

// tunnelWriter returns, on Hijack, a connection that first reads the bytes which the client sent
// behind the head of the request. ReverseProxy reads only from the connection.
type tunnelWriter struct{ http.ResponseWriter }

// Unwrap returns the writer for http.ResponseController.
func (w tunnelWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack returns the connection, which first reads the bytes that are already buffered.
func (w tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if tcp, ok := c.(closeWriter); ok && err == nil {
		c = &tunnelConn{tcp, rw.Reader}
	}
	return c, rw, err
}

type closeWriter interface {
	net.Conn
	CloseWrite() error
}

type tunnelConn struct {
	closeWriter
	buffered *bufio.Reader
}

// Read reads the buffered bytes, then the connection.
func (c *tunnelConn) Read(p []byte) (int, error) { return c.buffered.Read(p) }

type servingKey struct{}

// untilShutdown returns a context that lasts until the server cancels its requests. net/http
// ends a request's own context when the client closes its direction of the connection. A client
// that asked for an upgrade may continue to read after that.
func untilShutdown(request context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(request))
	serving, ok := request.Value(servingKey{}).(context.Context)
	if !ok {
		serving = request
	}
	stop := context.AfterFunc(serving, cancel)
	return ctx, func() { stop(); cancel() }
}
