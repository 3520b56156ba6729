package probe_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/probe"
	"rollcall/tests/harness"
)

// authority issues the certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	c := authority{cert: template}.issue(t, template)
	return authority{c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)}
}

// issue returns a certificate with a new key. An authority without a key lets the certificate sign itself.
func (a authority) issue(t testing.TB, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if signer == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// certificate returns the template of a valid certificate for the names, of which the first may be an IP address.
func certificate(names ...string) *x509.Certificate {
	now := time.Now()
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "app"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	if len(names) > 0 {
		if ip := net.ParseIP(names[0]); ip != nil {
			c.IPAddresses, names = []net.IP{ip}, names[1:]
		}
	}
	c.DNSNames = names
	return c
}

func (a authority) prober() *probe.Prober {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	p := probe.New(probe.Options{})
	p.SetRoots(roots)
	return p
}

// serveHTTPS answers ok over TLS until the test ends, and returns its address.
func serveHTTPS(t testing.TB, config *tls.Config, protocols ...string) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{TLSConfig: config, ErrorLog: nil, ReadHeaderTimeout: ample, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/", http.StatusFound)
			return
		}
		_, _ = w.Write([]byte(r.Proto + " " + r.Method + " " + r.Host + r.RequestURI + " by " + r.UserAgent()))
	})}
	if len(protocols) > 0 {
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(protocols[0] == "http/1.1")
		server.Protocols.SetHTTP2(protocols[0] == "h2")
		server.Protocols.SetUnencryptedHTTP2(protocols[0] == "h2c")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if config == nil {
			_ = server.Serve(l)
		} else {
			_ = server.ServeTLS(l, "", "")
		}
	}()
	t.Cleanup(func() { server.Close(); <-done })
	return l.Addr().String()
}

// overTLS returns an instance whose check uses TLS.
func overTLS(kind app.Kind, address string, edits ...func(*app.Check)) app.Instance {
	i := instance(kind, address, ample)
	i.Check.TLS = true
	for _, edit := range edits {
		edit(&i.Check)
	}
	return i
}

func certName(name string) func(*app.Check) { return func(c *app.Check) { c.ServerName = name } }

func TestHTTPSVerifiesTheCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	expired, early := certificate("shop.test"), certificate("shop.test")
	expired.NotBefore, expired.NotAfter = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	early.NotBefore, early.NotAfter = time.Date(2126, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2126, 2, 1, 0, 0, 0, 0, time.UTC)
	otherCA := newAuthority(t)
	for name, c := range map[string]struct {
		cert tls.Certificate
		want app.Result
	}{
		"valid":         {ca.issue(t, certificate("shop.test")), pass(200)},
		"wildcard":      {ca.issue(t, certificate("*.test")), pass(200)},
		"expired":       {ca.issue(t, expired), fail(app.TLSFailed, "the certificate expired at 2026-02-01 00:00 UTC; renew it, or set tls_skip_verify=true")},
		"not yet valid": {ca.issue(t, early), fail(app.TLSFailed, "the certificate is not valid before 2126-01-01 00:00 UTC; compare the clocks")},
		"another name": {
			ca.issue(t, certificate("127.0.0.1", "a.test", "b.test")),
			fail(app.TLSFailed, `the certificate is for a.test, b.test, ..., not for "shop.test"; set tls_server_name`),
		},
		"no name": {ca.issue(t, certificate()), fail(app.TLSFailed, `the certificate is for no host, not for "shop.test"; set tls_server_name`)},
		"unknown issuer": {
			otherCA.issue(t, certificate("shop.test")),
			fail(app.TLSFailed, `the issuer "Test CA" of the certificate is unknown; add its certificate to the worker's, or set tls_skip_verify=true`),
		},
		"self-signed": {
			authority{}.issue(t, certificate("shop.test")),
			fail(app.TLSFailed, "the certificate is self-signed; add it to the worker's trusted certificates, or set tls_skip_verify=true"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := serveHTTPS(t, &tls.Config{Certificates: []tls.Certificate{c.cert}})
			same(t, run(t, ca.prober(), overTLS(app.HTTP, address, certName("shop.test"))), c.want)
			same(t, run(t, ca.prober(), overTLS(app.HTTP, address, func(c *app.Check) { c.SkipVerify = true })), pass(200))
		})
	}
}

func TestTheDefaultServerNameIsTheHostHeader(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	names := make(chan string, 1)
	address := serveHTTPS(t, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		names <- h.ServerName
		c := ca.issue(t, certificate("127.0.0.1", "given.test", "host.test", "vhost.test"))
		return &c, nil
	}})
	for _, c := range []struct {
		name, host string
		hosts      []string
		want       string
	}{
		{"given.test", "host.test", []string{"vhost.test"}, "given.test"},
		{"", "host.test:8443", []string{"vhost.test"}, "host.test"},
		{"", "", []string{"*.a.test", "vhost.test"}, "vhost.test"},
		{"", "", []string{"*.a.test"}, ""}, // an IP address: it is verified, and TLS sends no name
		{"", "127.0.0.1:1", nil, ""},
	} {
		i := overTLS(app.HTTP, address, certName(c.name))
		i.Check.Host, i.Hosts = c.host, c.hosts
		same(t, run(t, ca.prober(), i), pass(200))
		if got := <-names; got != c.want {
			t.Errorf("tls_server_name %q, health_host %q, vhosts %q: the server was asked for %q, want %q", c.name, c.host, c.hosts, got, c.want)
		}
	}
}

func TestAServerWithoutTLSFailsWithTheRemedy(t *testing.T) {
	t.Parallel()
	const noHandshake = "no TLS handshake; give a check without TLS if the port speaks none"
	for name, c := range map[string]struct {
		address string
		want    app.Result
	}{
		"plain HTTP": {serveHTTPS(t, nil), fail(app.TLSFailed, "the port speaks plain HTTP; give health without https:")},
		"another protocol": {
			listen(t, func(c net.Conn) { _, _ = c.Write([]byte("-ERR unknown command\r\n")); silent(c) }),
			fail(app.TLSFailed, `the port does not speak TLS, its answer begins "-ERR"`),
		},
		"closes": {listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }), fail(app.ClosedEarly, noHandshake)},
		"resets": {listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 16)); resets(c) }), fail(app.Reset, noHandshake)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same(t, run(t, probe.New(probe.Options{}), overTLS(app.HTTP, c.address)), c.want)
		})
	}
	i := overTLS(app.HTTP, listen(t, silent))
	i.Check.Timeout = brief
	same(t, run(t, probe.New(probe.Options{}), i), fail(app.Stalled, noHandshake))
}

func TestATLSServerThatRefusesFailsWithTheRemedy(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert := []tls.Certificate{ca.issue(t, certificate("shop.test"))}
	client := "the server refuses: certificate required; probes have no client certificate: give health=tcp, or a port that needs none"
	for name, c := range map[string]struct {
		config *tls.Config
		want   string
	}{
		"a client certificate":         {&tls.Config{Certificates: cert, ClientAuth: tls.RequireAnyClientCert}, client},
		"a client certificate, TLS1.2": {&tls.Config{Certificates: cert, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, strings.Replace(client, "certificate required", "handshake failure", 1)},
		"an old version":               {&tls.Config{Certificates: cert, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "the server refuses: protocol version not supported; probes speak TLS 1.2 and 1.3"},
		"an unknown name":              {&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}, `the server refuses: unrecognized name "shop.test"; set tls_server_name`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same(t, notReset(t, ca.prober(), overTLS(app.HTTP, serveHTTPS(t, c.config), certName("shop.test"))), fail(app.TLSFailed, c.want))
			same(t, notReset(t, ca.prober(), overTLS(app.HTTP, serveHTTPS(t, c.config, "http/1.1"), certName("shop.test"))), fail(app.TLSFailed, c.want))
		})
	}
}

// notReset probes until the result is no reset. In TLS 1.3 the request may reach a server that has refused the client and
// closed the connection: the reset then discards the alert.
func notReset(t *testing.T, p *probe.Prober, i app.Instance) app.Result {
	t.Helper()
	for {
		if r := run(t, p, i); r.Code != app.Reset {
			return r
		}
	}
}

func TestHTTPVersions(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	config := func() *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.issue(t, certificate("127.0.0.1"))}}
	}
	for name, c := range map[string]struct {
		address string
		tls     bool
		proto   string
	}{
		"HTTP/1.1":            {serveHTTPS(t, nil, "http/1.1"), false, "HTTP/1.1"},
		"HTTP/2 only":         {serveHTTPS(t, nil, "h2c"), false, "HTTP/2.0"},
		"HTTP/1.1 over TLS":   {serveHTTPS(t, config(), "http/1.1"), true, "HTTP/1.1"},
		"HTTP/2 over TLS":     {serveHTTPS(t, config()), true, "HTTP/2.0"},
		"only HTTP/2 and TLS": {serveHTTPS(t, config(), "h2"), true, "HTTP/2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := ca.prober()
			i := instance(app.HTTP, c.address, ample)
			i.Check.TLS, i.Check.Path, i.Check.Body = c.tls, "/a%2Fb?c=d", c.proto+" GET "+c.address+"/a%2Fb?c=d by rollcall-probe"
			same(t, run(t, p, i), pass(200))
			i.Check.Body = "absent"
			same(t, run(t, p, i), fail(app.BodyMismatch, fmt.Sprintf("status 200, looked at %d bytes", len(c.proto+" GET "+c.address+"/a%2Fb?c=d by rollcall-probe"))))
			i.Check.Body, i.Check.Method = "", http.MethodHead
			same(t, run(t, p, i), pass(200))
			i.Check.Path, i.Check.Statuses = "/moved", "200"
			same(t, run(t, p, i), fail(302, "want 200")) // a redirect is not followed
		})
	}
}

func TestTLSDoesNotBypassTheAddressPolicy(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	address := serveHTTPS(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, certificate("127.0.0.1"))}})
	p := probe.New(probe.Options{Allow: func(netip.Addr) bool { return false }})
	same(t, run(t, p, overTLS(app.HTTP, address, func(c *app.Check) { c.SkipVerify = true })), fail(app.Forbidden, "127.0.0.1"))
}

// TestRealNginx probes Debian's nginx: a Host allow-list that answers 421 to other hosts, with and without TLS.
func TestRealNginx(t *testing.T) {
	t.Parallel()
	nginx, dir := harness.Need(t, "nginx"), t.TempDir()
	ca := newAuthority(t)
	writePair(t, dir, ca.issue(t, certificate("shop.test")))
	plain, secure := freeAddress(t), freeAddress(t)
	config := strings.NewReplacer("DIR", dir, "PLAIN", plain, "SECURE", secure).Replace(`daemon off; master_process off; pid DIR/pid; error_log stderr; events {}
http {
  access_log off; client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  ssl_certificate DIR/cert.pem; ssl_certificate_key DIR/key.pem;
  server { listen PLAIN default_server; listen SECURE ssl http2 default_server; return 421; }
  server {
    listen PLAIN; listen SECURE ssl http2; server_name shop.test;
    location / { return 200 "well over $server_protocol"; }
    location /private { if ($http_x_token != "t0ken") { return 401; } return 200 "known"; }
    location /moved { return 301 /; }
  }
}`)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	startOn(t, plain, nginx, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	host := func(name string) func(*app.Check) { return func(c *app.Check) { c.Host = name } }
	body := func(text string) func(*app.Check) { return func(c *app.Check) { c.Body = text } }
	path := func(p string) func(*app.Check) { return func(c *app.Check) { c.Path = p } }
	header := func(line string) func(*app.Check) { return func(c *app.Check) { c.Headers = line + "\r\n" } }
	without := func(c *app.Check) { c.TLS = false }
	for name, c := range map[string]struct {
		i    app.Instance
		want app.Result
	}{
		"the address as Host":    {overTLS(app.HTTP, plain, without), fail(421, "want 200-399")},
		"its host":               {overTLS(app.HTTP, plain, without, host("shop.test"), body("well over HTTP/1.1")), pass(200)},
		"TLS":                    {overTLS(app.HTTP, secure, host("shop.test"), body("well over HTTP/2.0")), pass(200)},
		"TLS, a wrong name":      {overTLS(app.HTTP, secure, host("shop.test"), certName("other.test")), fail(app.TLSFailed, `the certificate is for shop.test, not for "other.test"; set tls_server_name`)},
		"TLS, the address":       {overTLS(app.HTTP, secure), fail(app.TLSFailed, `the certificate is for shop.test, not for "127.0.0.1"; set tls_server_name`)},
		"TLS, a wrong Host":      {overTLS(app.HTTP, secure, certName("shop.test")), fail(421, "want 200-399")},
		"TLS on the plain port":  {overTLS(app.HTTP, plain, host("shop.test")), fail(app.TLSFailed, "the port speaks plain HTTP; give health without https:")},
		"plain on the TLS port":  {overTLS(app.HTTP, secure, without, host("shop.test")), fail(400, "want 200-399")},
		"no header":              {overTLS(app.HTTP, secure, host("shop.test"), path("/private")), fail(401, "want 200-399")},
		"a wrong header":         {overTLS(app.HTTP, secure, host("shop.test"), path("/private"), header("X-Token: wrong")), fail(401, "want 200-399")},
		"its header":             {overTLS(app.HTTP, secure, host("shop.test"), path("/private"), header("X-Token: t0ken")), pass(200)},
		"its header without TLS": {overTLS(app.HTTP, plain, without, host("shop.test"), path("/private"), header("X-Token: t0ken")), pass(200)},
		"a redirect with TLS":    {overTLS(app.HTTP, secure, host("shop.test"), path("/moved"), func(c *app.Check) { c.Statuses = "200" }), fail(301, "want 200")},
		"a redirect without TLS": {overTLS(app.HTTP, plain, without, host("shop.test"), path("/moved"), func(c *app.Check) { c.Statuses = "200" }), fail(301, "want 200")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same(t, run(t, ca.prober(), c.i), c.want)
		})
	}
}

// writePair writes a certificate and its key to cert.pem and key.pem.
func writePair(t *testing.T, dir string, c tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
