package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"rollcall/app"
)

// maxTLS is the number of bytes that a probe reads of a connection with TLS: the handshake and the encrypted answer.
const maxTLS = 2 * maxHeader

// alpnHTTP2 is the name of HTTP/2 over TLS (RFC 9113, 3.1).
const alpnHTTP2 = "h2"

// A TLS alert begins with its type and the major version (RFC 8446, 5.1).
const (
	tlsAlert = 21
	tlsMajor = 3
)

// probeTLS probes the instance over TLS on c. The certificate is verified at each probe: there is no resumption.
func (p *Prober) probeTLS(ctx context.Context, c *conn, i app.Instance) (app.Result, error) {
	c.left = maxTLS
	secure := tls.Client(c, p.tlsConfig(i))
	// The end of ctx ends the connection. A context that can end would cost a goroutine.
	if err := secure.HandshakeContext(context.WithoutCancel(ctx)); err != nil {
		if detail := tlsFault(c.cause(err), i); detail != "" {
			return failed(app.TLSFailed, detail), nil
		}
		err = &handshakeError{c.cause(err)}
		c.broken.Store(&err)
		return app.Result{}, err
	}
	r, err := speakOver(ctx, c, secure, i)
	if detail, ok := refusal(lateRefusal(c, secure, err), i); ok {
		return failed(app.TLSFailed, detail), nil
	}
	_ = secure.CloseWrite() // OpenSSL reports an end without close_notify as an error
	return r, err
}

// lateRefusal returns the alert that ended an exchange, or nil. In TLS 1.3 the server refuses the client after the
// client's handshake. net/http replaces the alert by an error of its own, and TLS repeats it.
func lateRefusal(c *conn, secure *tls.Conn, err error) error {
	if err == nil {
		return nil
	}
	err = c.cause(err)
	c.broken.Store(&err) // reading again must not replace it
	_ = c.SetDeadline(longAgo)
	_, again := secure.Read(make([]byte, 1))
	return again
}

// speakOver probes the instance with the protocol of the check, after the handshake.
func speakOver(ctx context.Context, c *conn, secure *tls.Conn, i app.Instance) (app.Result, error) {
	isHTTP2 := secure.ConnectionState().NegotiatedProtocol == alpnHTTP2
	switch {
	case i.Check.Kind == app.GRPC && isHTTP2:
		return callHealth(ctx, c, secure, i)
	case i.Check.Kind == app.GRPC:
		return failed(app.TLSFailed, withoutHTTP2), nil
	case isHTTP2:
		return probeHTTP2(ctx, c, secure, i)
	}
	inner := &conn{Conn: plaintext{secure}}
	r, err := probeHTTP(ctx, inner, i)
	c.closing = inner.closing
	return r, inner.cause(err)
}

const withoutHTTP2 = "the server offers no HTTP/2 (ALPN h2), which gRPC needs"

// plaintext is the decrypted side of a connection.
type plaintext struct{ *tls.Conn }

// Read returns io.EOF also if the server closes the connection without close_notify. Many servers do so, and HTTP has
// its own signs of a truncated answer.
func (p plaintext) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

func (p *Prober) tlsConfig(i app.Instance) *tls.Config {
	offered := []string{alpnHTTP2, "http/1.1"}
	if i.Check.Kind == app.GRPC {
		offered = offered[:1]
	}
	return &tls.Config{
		RootCAs: p.roots, ServerName: serverName(i), NextProtos: offered,
		InsecureSkipVerify: i.Check.SkipVerify, //nolint:gosec // the registration asks for it
	}
}

// serverName returns the name that the certificate of an instance must have.
func serverName(i app.Instance) string {
	if i.Check.ServerName != "" {
		return i.Check.ServerName
	}
	name := hostHeader(i)
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	return strings.Trim(name, "[]")
}

// A handshakeError is an error of the network during the handshake.
type handshakeError struct{ error }

func (e *handshakeError) Unwrap() error { return e.error }

// tlsFault returns why a handshake has failed, and the remedy. It returns "" for an error of the network.
func tlsFault(err error, i app.Instance) string {
	if detail, ok := refusal(err, i); ok {
		return detail
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificateFault(e)
	}
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return plainFault(e.RecordHeader[:], i.Check.Kind)
	}
	if ofNetwork(err) {
		return ""
	}
	return strings.TrimPrefix(err.Error(), "tls: ")
}

// plainFault returns the fault of a port that does not speak TLS, from the beginning of its answer.
func plainFault(begin []byte, kind app.Kind) string {
	remedy := "; give health without https:"
	if kind == app.GRPC {
		remedy = "; give health=grpc"
	}
	switch {
	case string(begin) == "HTTP/":
		return "the port speaks plain HTTP" + remedy
	case begin[3] == settingsFrame:
		return "the port speaks HTTP/2 without TLS" + remedy
	}
	return "the port does not speak TLS, its answer " + beginning(begin)
}

// ofNetwork reports whether an error says nothing about TLS.
func ofNetwork(err error) bool {
	_, hasErrno := errors.AsType[syscall.Errno](err)
	return hasErrno || timedOut(err) || errors.Is(err, errTooLong) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// refusal returns the alert with which the server has refused the handshake, and the remedy.
func refusal(err error, i app.Instance) (detail string, ok bool) {
	e, ok := errors.AsType[*net.OpError](err)
	if !ok || e.Op != "remote error" {
		return "", false
	}
	alert := strings.TrimPrefix(e.Err.Error(), "tls: ")
	remedy := map[string]string{
		"certificate required":           noCertificate,
		"bad certificate":                noCertificate,
		"handshake failure":              noCertificate,
		"unrecognized name":              fmt.Sprintf(" %q; set tls_server_name", serverName(i)),
		"no application protocol":        "; it offers neither HTTP/1.1 nor HTTP/2",
		"protocol version not supported": "; probes speak TLS 1.2 and 1.3",
	}
	if alert == "no application protocol" && i.Check.Kind == app.GRPC {
		return withoutHTTP2, true
	}
	return "the server refuses: " + alert + remedy[alert], true
}

const (
	noCertificate = "; probes have no client certificate: give health=tcp, or a port that needs none"

	skipIt   = "set tls_skip_verify=true"
	dateForm = "2006-01-02 15:04 UTC"
)

// certificateFault returns why a certificate is not accepted, and the remedy.
func certificateFault(e *tls.CertificateVerificationError) string {
	if wrong, ok := errors.AsType[x509.HostnameError](e); ok {
		return fmt.Sprintf("the certificate is for %s, not for %.80q; set tls_server_name", namesOf(wrong.Certificate), wrong.Host)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](e); ok && invalid.Reason == x509.Expired {
		if begin := invalid.Cert.NotBefore; time.Now().Before(begin) {
			return "the certificate is not valid before " + begin.UTC().Format(dateForm) + "; compare the clocks"
		}
		return "the certificate expired at " + invalid.Cert.NotAfter.UTC().Format(dateForm) + "; renew it, or " + skipIt
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](e); ok {
		leaf := e.UnverifiedCertificates[0]
		if bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
			return "the certificate is self-signed; add it to the worker's trusted certificates, or " + skipIt
		}
		return fmt.Sprintf("the issuer %.60q of the certificate is unknown; add its certificate to the worker's, or %s", leaf.Issuer.CommonName, skipIt)
	}
	return strings.TrimPrefix(e.Err.Error(), "x509: ") + "; replace the certificate, or " + skipIt
}

// namesOf returns the first names of a certificate.
func namesOf(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no host"
	}
	const shown = 2
	text := strings.Join(names[:min(len(names), shown)], ", ")
	if len(text) > maxDetail/3 {
		text = text[:maxDetail/3] + "..."
	} else if len(names) > shown {
		text += ", ..."
	}
	return text
}
