package probe_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"

	"rollcall/app"
	"rollcall/app/probe"
)

// BenchmarkHTTP compares a probe with a floor (dial, write, read a line, close) and with
// net/http. All three times include the server's, which runs in this process.
func BenchmarkHTTP(b *testing.B) {
	address := listen(b, func(c net.Conn) {
		if _, err := c.Read(make([]byte, 512)); err == nil {
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"))
		}
	})
	i := instance(app.HTTP, address, ample)
	b.Run("floor", func(b *testing.B) {
		d := net.Dialer{KeepAlive: -1}
		request := []byte("GET / HTTP/1.1\r\nHost: " + address + "\r\nConnection: close\r\n\r\n")
		for b.Loop() {
			if err := floor(b.Context(), &d, address, request); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("probe", func(b *testing.B) {
		b.ReportAllocs()
		p := probe.New(probe.Options{})
		for b.Loop() {
			if r := p.Probe(b.Context(), i); !r.Passed {
				b.Fatal(r.Reason())
			}
		}
	})
	b.Run("nethttp", func(b *testing.B) {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		for b.Loop() {
			resp, err := client.Get("http://" + address + "/")
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}

func floor(ctx context.Context, d *net.Dialer, address string, request []byte) error {
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(request); err != nil {
		return err
	}
	_, err = bufio.NewReader(c).ReadSlice('\n')
	_ = c.(*net.TCPConn).SetLinger(0)
	return err
}

// BenchmarkHTTPS is a probe over TLS. The server signs with an ECDSA key, in this process.
func BenchmarkHTTPS(b *testing.B) {
	ca := newAuthority(b)
	for _, protocol := range []string{"http/1.1", "h2"} {
		b.Run(protocol, func(b *testing.B) {
			address := serveHTTPS(b, &tls.Config{Certificates: []tls.Certificate{ca.issue(b, certificate("127.0.0.1"))}}, protocol)
			i := overTLS(app.HTTP, address)
			p := ca.prober()
			for b.Loop() {
				if r := p.Probe(b.Context(), i); !r.Passed {
					b.Fatal(r.Reason())
				}
			}
		})
	}
}
