package edge

import (
	"net/http"
	"strings"
)

// wellFormed reports whether a request stays one request when it is written as
// HTTP/1.1. An HTTP/2 client may send a space in the method or the path, which would
// end it there, and a Host header beside :authority, which a backend might read instead.
func wellFormed(r *http.Request) bool {
	for _, host := range r.Header["Host"] { // net/http takes out HTTP/1's
		if !strings.EqualFold(host, r.Host) {
			return false
		}
	}
	return r.Method != "" && !strings.ContainsFunc(r.Method, notToken) &&
		!strings.ContainsFunc(r.Host, notHost) && targetForm(r) && !strings.ContainsFunc(r.RequestURI, notTarget)
}

// targetForm reports whether the target begins as one does: with the path, with a scheme
// in HTTP/1, or as the asterisk of OPTIONS.
func targetForm(r *http.Request) bool {
	return strings.HasPrefix(r.RequestURI, "/") || r.RequestURI == "*" && r.Method == http.MethodOptions ||
		r.ProtoMajor == 1 && r.URL.Host != ""
}

func notToken(c rune) bool {
	return !alphanumeric(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}

func notHost(c rune) bool {
	return !alphanumeric(c) && !strings.ContainsRune("!$%&'()*+,-.:;=[]_~", c)
}

// notTarget reports a character that ends a target or has no place in one. Others that
// a client should have escaped are passed on as they are.
func notTarget(c rune) bool { return c <= ' ' || c == 0x7f || c == '#' }

func alphanumeric(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// endConnection has the connection end with this request if a proxy before this one may
// have seen the body end elsewhere: Transfer-Encoding beside Content-Length, or in
// HTTP/1.0, which has no such header. net/http accepts both and hides that the other
// header was there, so every request in chunks, and every one of HTTP/1.0, is the last.
func endConnection(answer http.Header, r *http.Request) {
	if r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0) {
		answer.Set("Connection", "close")
	}
}
