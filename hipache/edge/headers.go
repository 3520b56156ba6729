package edge

import (
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

// rewrite builds the backend's request. It keeps the client's Host header, because a backend
// serves vhosts, not addresses.
func (p *proxyRequest) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme = "http"
	r.Out.URL.RawQuery = r.In.URL.RawQuery // ReverseProxy drops parameters that it cannot parse
	if path, _, _ := strings.Cut(r.In.RequestURI, "?"); strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") {
		r.Out.URL.Opaque = path // as sent; url.URL would escape parts of it
	}
	p.forward(r)
	refuseH2C(r.Out.Header)
	if r.Out.Body != nil {
		p.body = &body{Reader: r.Out.Body, in: r.In, out: r.Out, client: p.client, timeout: p.edge.opt.Timeout}
		r.Out.Body, r.Out.GetBody = p.body, p.body.again
	}
	if _, ok := r.Out.Header["X-Idempotency-Key"]; !ok && idempotent(r.In.Method) {
		// The transport repeats such a request on a new connection if the backend has closed the
		// kept one. It does not send a header without a value.
		r.Out.Header["X-Idempotency-Key"] = nil
	}
}

// refuseH2C removes an upgrade to h2c. If a backend agreed to it, requests would bypass the proxy.
func refuseH2C(h http.Header) {
	if strings.EqualFold(h.Get("Upgrade"), "h2c") {
		for _, name := range []string{"Upgrade", "Connection", "Http2-Settings"} {
			h.Del(name)
		}
	}
}

// forward sets the headers that describe the client's request.
func (p *proxyRequest) forward(r *httputil.ProxyRequest) {
	r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
	r.SetXForwarded() // appends to For; Host and Proto are those of this connection
	client, _, _ := net.SplitHostPort(r.In.RemoteAddr)
	proto := r.Out.Header.Get("X-Forwarded-Proto")
	r.Out.Header.Set("X-Forwarded-Protocol", proto)
	r.Out.Header.Set("X-Forwarded-Port", port(r.In.Host, proto))
	r.Out.Header.Set("X-Real-Ip", client) // set also without an address, to replace the client's value
}

// port returns the port that the client connected to, according to its Host header.
func port(host, proto string) string {
	if _, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err == nil {
			return port
		}
	}
	if proto == "https" {
		return "443"
	}
	return "80"
}

// debugHeaders sets Hipache's debug headers.
func (p *proxyRequest) debugHeaders(h http.Header) {
	if p.addr != "" {
		h.Set("X-Debug-Backend-Url", "http://"+p.addr+"/")
		h.Set("X-Debug-Backend-Id", strconv.Itoa(p.backend.Position))
		h.Set("X-Debug-Time-Backend", millis(p.sent))
	}
	if p.frontend.Host != "" {
		h.Set("X-Debug-Vhost", printable(p.frontend.Identifier))
		h.Set("X-Debug-Frontend-Key", printable(p.frontend.Requested))
	}
	h.Set("X-Debug-Time-Total", millis(p.started))
}

func millis(since time.Time) string {
	return strconv.FormatInt(time.Since(since).Milliseconds(), 10)
}

// printable makes any stored text valid as a header value.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
