package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/app"
)

// probeHTTP2 is probeHTTP over HTTP/2. secure is the TLS on c; nil: none.
func probeHTTP2(ctx context.Context, c *conn, secure *tls.Conn, i app.Instance) (app.Result, error) {
	u, err := url.ParseRequestURI(i.Check.Path)
	if err != nil {
		return app.Result{}, err
	}
	u.Scheme, u.Host = "http", i.Target()
	if secure != nil {
		u.Scheme = "https"
	}
	request := (&http.Request{
		Method: cmp.Or(i.Check.Method, http.MethodGet), URL: u, Host: hostHeader(i),
		Header: http.Header{"User-Agent": {userAgent}, "Accept": {"*/*"}},
	}).WithContext(ctx)
	for _, line := range i.Check.HeaderLines() {
		name, value, _ := strings.Cut(line, ": ")
		request.Header.Set(name, value)
	}
	return roundTrip(c, secure, request, func(r *http.Response) (app.Result, error) {
		if r.StatusCode > 599 { // an app.Code means something else there
			return failed(app.BadAnswer, fmt.Sprintf("has the status %03d", r.StatusCode)), nil
		}
		if result, done := statusResult(i.Check, r.StatusCode); done {
			return result, nil
		}
		var buf [maxBody]byte
		body, err := readSome(r.Body, buf[:])
		if err != nil {
			return app.Result{}, err
		}
		return bodyResult(i.Check, r.StatusCode, body), nil
	})
}

// probeH2C probes over HTTP/2 without TLS.
func probeH2C(ctx context.Context, c *conn, i app.Instance) (app.Result, error) {
	c.left = maxTLS
	return probeHTTP2(ctx, c, nil, i)
}

// roundTrip sends a request over HTTP/2 on a new connection, and judges the response.
func roundTrip(c *conn, secure *tls.Conn, request *http.Request, judge func(*http.Response) (app.Result, error)) (app.Result, error) {
	client, err := newTransport(c, secure).NewClientConn(request.Context(), request.URL.Scheme, request.URL.Host)
	if err != nil {
		return app.Result{}, err
	}
	defer client.Close()
	response, err := client.RoundTrip(request) //nolint:bodyclose // closing the connection ends the body
	if err != nil {
		return app.Result{}, err
	}
	c.resetOnClose() // the server has answered, and HTTP/2 has no request to close the connection
	return judge(response)
}

// newTransport returns a transport that speaks only HTTP/2, on secure, or without TLS on c if secure is nil.
func newTransport(c *conn, secure *tls.Conn) *http.Transport {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(secure == nil)
	protocols.SetHTTP2(secure != nil)
	return &http.Transport{
		Protocols:              &protocols,
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return newHTTP2Conn(c), nil },
		DialTLSContext:         func(context.Context, string, string) (net.Conn, error) { return secure, nil },
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		// The transport keeps the memory of a closed connection for this time, 5 s by default.
		IdleConnTimeout: time.Second,
	}
}

// prefaceWait is how long a probe waits for the server's first frame before it sends the request.
const prefaceWait = 100 * time.Millisecond

// An HTTP/2 frame begins with a length of 24 bits and a type of 8 bits (RFC 9113, 4.1).
const (
	frameHeader   = 9
	settingsFrame = 4
)

// isSettings reports whether an answer begins with SETTINGS, as HTTP/2 does.
func isSettings(begin []byte) bool { return len(begin) >= frameHeader && begin[3] == settingsFrame }

// http2Conn fails with the first word of the answer unless the answer begins with SETTINGS,
// as HTTP/2 does. The errors of net/http do not name another protocol.
//
// It writes the client's preface and then waits for the first frame header of the server. A server of another protocol
// answers the preface and closes the connection; further bytes would make it reset the connection, and the answer would be
// lost. A server of HTTP/2 sends SETTINGS first (RFC 9113, 3.4), and usually without waiting for a request.
type http2Conn struct {
	*conn
	first   []byte        // the first bytes of the answer, at most frameHeader
	began   chan struct{} // closed when first is complete, or the connection has failed
	begin   func()        // closes began
	preface atomic.Bool   // the preface has been written
}

func newHTTP2Conn(c *conn) *http2Conn {
	began := make(chan struct{})
	return &http2Conn{conn: c, began: began, begin: sync.OnceFunc(func() { close(began) })}
}

// Read reads from the connection and checks the first frame header.
func (c *http2Conn) Read(b []byte) (int, error) {
	n, err := c.conn.Read(b)
	if missing := frameHeader - len(c.first); missing > 0 {
		c.first = append(c.first, b[:min(n, missing)]...)
		if len(c.first) == frameHeader || err != nil {
			defer c.begin()
		}
		if len(c.first) == frameHeader && !isSettings(c.first) {
			return 0, c.fail(errors.New(beginning(c.first)))
		}
	}
	return n, err
}

// Write writes to the connection, all but the preface after the first frame header of the server.
func (c *http2Conn) Write(b []byte) (int, error) {
	if c.preface.Swap(true) {
		select {
		case <-c.began:
		case <-time.After(prefaceWait):
		}
	}
	return c.conn.Write(b)
}

// Close ends a Write that waits.
func (c *http2Conn) Close() error {
	defer c.begin()
	return c.conn.Close()
}
