package edge

import (
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

// rewrite makes the backend's request. The client's Host header stays as it is: a
// backend serves vhosts, not addresses.
func (p *proxyRequest) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme = "http"
	r.Out.URL.RawQuery = r.In.URL.RawQuery // ReverseProxy leaves out what it cannot parse
	if path, _, _ := strings.Cut(r.In.RequestURI, "?"); strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") {
		r.Out.URL.Opaque = path // as sent; url.URL would escape some of it
	}
	p.forward(r)
	if strings.EqualFold(r.Out.Header.Get("Upgrade"), "h2c") {
		// A backend that agreed would serve what follows behind the proxy's back.
		for _, h := range []string{"Upgrade", "Connection", "Http2-Settings"} {
			r.Out.Header.Del(h)
		}
	}
	if r.Out.Body != nil {
		p.body = &body{Reader: r.Out.Body, in: r.In, out: r.Out, client: p.client, timeout: p.edge.opt.Timeout}
		r.Out.Body, r.Out.GetBody = p.body, p.body.again
	}
	if _, ok := r.Out.Header["X-Idempotency-Key"]; !ok && idempotent(r.In.Method) {
		// The transport repeats such a request on a new connection when the backend has
		// closed the one it kept. A header without a value is not sent.
		r.Out.Header["X-Idempotency-Key"] = nil
	}
}

// forward tells the backend who asked for what.
func (p *proxyRequest) forward(r *httputil.ProxyRequest) {
	r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
	r.SetXForwarded() // For is continued, Host and Proto are as seen here
	client, _, _ := net.SplitHostPort(r.In.RemoteAddr)
	proto := r.Out.Header.Get("X-Forwarded-Proto")
	r.Out.Header.Set("X-Forwarded-Protocol", proto)
	r.Out.Header.Set("X-Forwarded-Port", port(r.In.Host, proto))
	r.Out.Header.Set("X-Real-Ip", client) // also where there is none: the client's word is not it
}

// port is the one the client believes to talk to.
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

// debugHeaders puts Hipache's debug headers on an answer.
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

// printable makes a header value of what anybody may have stored.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
