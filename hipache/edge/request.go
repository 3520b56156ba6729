package edge

import (
	"net/http"
	"slices"
	"strings"
)

// wellFormed reports whether a request stays one request when written as HTTP/1.1. An HTTP/2
// client may send a space in the method or the path, which would end it, and a Host header
// beside :authority, which a backend might use instead.
func wellFormed(r *http.Request) bool {
	otherHost := func(host string) bool { return !strings.EqualFold(host, r.Host) }
	return !slices.ContainsFunc(r.Header["Host"], otherHost) && // net/http removes the header of HTTP/1
		r.Method != "" && !strings.ContainsFunc(r.Method, notToken) &&
		!strings.ContainsFunc(r.Host, notHost) && targetForm(r) && !strings.ContainsFunc(r.RequestURI, notTarget)
}

// targetForm reports whether the target begins with a path, with a scheme in HTTP/1, or is the
// asterisk of OPTIONS.
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

// notTarget reports a character that would end a target or is forbidden in one. The edge passes
// on other characters unchanged, even if the client should have escaped them.
func notTarget(c rune) bool { return c <= ' ' || c == 0x7f || c == '#' }

func alphanumeric(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// endConnection ends the connection with this request if a proxy in front may have found
// another end of the body: Transfer-Encoding beside Content-Length, or Transfer-Encoding in
// HTTP/1.0, which has no such header. net/http accepts both and hides the other header, so every
// chunked request and every HTTP/1.0 request is the last of its connection.
func endConnection(answer http.Header, r *http.Request) {
	if r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0) {
		answer.Set("Connection", "close")
	}
}
