package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// Server returns a server of the edge for HTTP/1.1 and HTTP/2 without TLS. Bodies have no
// deadline in either direction, because they may be streams.
func (e *Edge) Server() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           e,
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       75 * time.Second, // browsers keep connections about a minute
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          e.errorLog,
	}
}

// Serve serves l until ctx ends, and then accepts no new connections. Requests in progress have
// Options.Grace to end, and upgraded connections end after them. It closes l, but not the edge.
func (e *Edge) Serve(ctx context.Context, l net.Listener) error {
	// Shutdown neither waits for upgraded connections nor ends them. Cancelling the context of
	// their requests ends them, after all other requests.
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	requests = context.WithValue(requests, servingKey{}, requests)
	server := e.Server()
	server.BaseContext = func(net.Listener) context.Context { return requests }

	served := make(chan error, 1)
	go func() { served <- server.Serve(newClients(l, server, maxClients(e.opt.files))) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(requests, e.opt.Grace)
	defer cancel()
	err := server.Shutdown(grace)
	<-served //nolint:errcheck // always http.ErrServerClosed
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.Join(err, server.Close())
	}
	return err
}
