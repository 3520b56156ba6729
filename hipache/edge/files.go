package edge

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"syscall"
)

// maxClients returns the number of clients that the edge serves at once. Each client has a connection to the edge and one
// to a backend. A third of the files that the process may open is for clients, a third for their backends, and the rest
// for idle connections to backends, Redis and other uses.
func maxClients(files int) int { return max(files/3, 1) }

// manyFiles stands for no limit.
const manyFiles = 1 << 20

func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// clients is a listener that limits the open connections. A client beyond the limit waits for a
// place. While it waits, the server closes idle connections, and every other connection after
// its request.
type clients struct {
	net.Listener
	server *http.Server
	places chan struct{}
	closed chan struct{}
	close  func()
}

func newClients(l net.Listener, server *http.Server, places int) *clients {
	closed := make(chan struct{})
	return &clients{l, server, make(chan struct{}, places), closed, sync.OnceFunc(func() { close(closed) })}
}

// Accept returns the next connection once it has a place.
func (l *clients) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	select {
	case l.places <- struct{}{}:
	default:
		l.server.SetKeepAlivesEnabled(false)
		defer l.server.SetKeepAlivesEnabled(true)
		select {
		case l.places <- struct{}{}:
		case <-l.closed:
			_ = c.Close()
			return nil, net.ErrClosed
		}
	}
	return &client{c, sync.OnceFunc(func() { <-l.places })}, nil
}

// Close closes the listener and ends a waiting Accept.
func (l *clients) Close() error {
	l.close()
	return l.Listener.Close()
}

// client is a connection that occupies a place until it is closed.
type client struct {
	net.Conn
	leave func()
}

// Close closes the connection and frees its place.
func (c *client) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// CloseWrite closes the direction to the client after a backend has closed its direction of a
// tunnel.
func (c *client) CloseWrite() error {
	if half, ok := c.Conn.(closeWriter); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
