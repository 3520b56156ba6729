package probe_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"rollcall/app"
	"rollcall/app/probe"
)

func TestRealGRPCHealthService(t *testing.T) {
	t.Parallel()
	for s, want := range map[grpc_health_v1.HealthCheckResponse_ServingStatus]app.Result{
		grpc_health_v1.HealthCheckResponse_SERVING:         pass(app.OK),
		grpc_health_v1.HealthCheckResponse_NOT_SERVING:     fail(app.NotServing, "NOT_SERVING"),
		grpc_health_v1.HealthCheckResponse_UNKNOWN:         fail(app.NotServing, "UNKNOWN"),
		grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN: fail(app.NotServing, "SERVICE_UNKNOWN"),
		7: fail(app.NotServing, "7"),
	} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			h := health.NewServer()
			h.SetServingStatus("", s)
			server := grpc.NewServer()
			grpc_health_v1.RegisterHealthServer(server, h)
			expect(t, instance(app.GRPC, serveGRPC(t, server), ample), want)
		})
	}
}

func TestRealGRPCOfANamedService(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("Long", 50)
	h := health.NewServer()
	h.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	h.SetServingStatus("orders", grpc_health_v1.HealthCheckResponse_SERVING)
	h.SetServingStatus(long, grpc_health_v1.HealthCheckResponse_SERVING)
	h.SetServingStatus("stock", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, h)
	i := instance(app.GRPC, serveGRPC(t, server), ample)
	for service, want := range map[string]app.Result{
		"": fail(app.NotServing, "NOT_SERVING"), "orders": pass(app.OK), long: pass(app.OK), "stock": fail(app.NotServing, "NOT_SERVING"),
		"absent": fail(app.NotServing, `no gRPC service is named "absent"; give health=grpc:NAME with a name of the server's health service`),
	} {
		i.Check.GRPCService = service
		expect(t, i, want)
	}
}

func TestRealGRPCOverTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	serve := func(config *tls.Config, options ...grpc.ServerOption) string {
		h := health.NewServer()
		h.SetServingStatus("orders", grpc_health_v1.HealthCheckResponse_SERVING)
		config.Certificates = []tls.Certificate{ca.issue(t, certificate("127.0.0.1", "orders.test"))}
		server := grpc.NewServer(append(options, grpc.Creds(credentials.NewTLS(config)))...)
		grpc_health_v1.RegisterHealthServer(server, h)
		return serveGRPC(t, server)
	}
	locked := grpc.UnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		return nil, status.Error(codes.Unauthenticated, "secret")
	})
	plain := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(plain, health.NewServer())
	open := serve(&tls.Config{})
	for name, c := range map[string]struct {
		address string
		edit    func(*app.Check)
		want    app.Result
	}{
		"serving":              {open, func(*app.Check) {}, pass(app.OK)},
		"a service":            {open, func(c *app.Check) { c.GRPCService = "orders" }, pass(app.OK)},
		"a name":               {open, certName("orders.test"), pass(app.OK)},
		"a wrong name":         {open, certName("stock.test"), fail(app.TLSFailed, `the certificate is for orders.test, 127.0.0.1, not for "stock.test"; set tls_server_name`)},
		"unauthenticated":      {serve(&tls.Config{}, locked), func(*app.Check) {}, pass(app.OK)},
		"a client certificate": {serve(&tls.Config{ClientAuth: tls.RequireAnyClientCert}), func(*app.Check) {}, fail(app.TLSFailed, "the server refuses: certificate required; probes have no client certificate: give health=tcp, or a port that needs none")},
		"without TLS":          {serveGRPC(t, plain), func(*app.Check) {}, fail(app.TLSFailed, "the port speaks HTTP/2 without TLS; give health=grpc")},
		"HTTP/1.1 only": {
			serveHTTPS(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, certificate("127.0.0.1"))}}, "http/1.1"), func(*app.Check) {},
			fail(app.TLSFailed, "the server offers no HTTP/2 (ALPN h2), which gRPC needs"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same(t, notReset(t, ca.prober(), overTLS(app.GRPC, c.address, c.edit)), c.want)
		})
	}
	if r := run(t, ca.prober(), instance(app.GRPC, open, ample)); r.Passed {
		t.Error("a probe without TLS passes on a port with TLS")
	}
}

func TestRealGRPCWithoutHealthService(t *testing.T) {
	t.Parallel()
	address := serveGRPC(t, grpc.NewServer())
	expect(t, instance(app.GRPC, address, ample), fail(app.BadAnswer, "gRPC status UNIMPLEMENTED"))
	expect(t, instance(app.HTTP, address, ample), fail(415, "want 200-399"))
}

func TestRealGRPCThatWantsCredentialsIsAlive(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]app.Result{
		codes.Unauthenticated:  pass(app.OK),
		codes.PermissionDenied: pass(app.OK),
		codes.Unavailable:      fail(app.BadAnswer, "gRPC status UNAVAILABLE"),
		codes.NotFound:         fail(app.BadAnswer, "gRPC status NOT_FOUND"), // an unknown service
	} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			server := grpc.NewServer(grpc.UnaryInterceptor(
				func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
					return nil, status.Error(code, "secret")
				}))
			grpc_health_v1.RegisterHealthServer(server, health.NewServer())
			expect(t, instance(app.GRPC, serveGRPC(t, server), ample), want)
		})
	}
	for code, want := range map[int]app.Result{
		401: pass(app.OK), 403: pass(app.OK), // from a proxy in front of it
		503: fail(app.BadAnswer, "HTTP/2 without gRPC, status 503"),
	} {
		address := serveHTTP2(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		expect(t, instance(app.GRPC, address, ample), want)
	}
}

func TestRealGRPCThatHangs(t *testing.T) {
	t.Parallel()
	server := grpc.NewServer(grpc.UnaryInterceptor(
		func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
			<-ctx.Done() // the probe has closed the connection
			return nil, ctx.Err()
		}))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	expect(t, instance(app.GRPC, serveGRPC(t, server), brief), fail(app.Stalled, "connected, but no whole answer"))
}

func TestRealGRPCThatAnswersLate(t *testing.T) {
	t.Parallel()
	server := grpc.NewServer(grpc.UnaryInterceptor(
		func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			time.Sleep(brief)
			return handle(ctx, request)
		}))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	i := instance(app.GRPC, serveGRPC(t, server), ample)
	if r := run(t, probe.New(probe.Options{}), i); !r.Passed || r.Latency < brief {
		t.Errorf("got %+v after %s, want a pass after at least %s", r, r.Latency, brief)
	}
}

func TestGRPCRequest(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	i := instance(app.GRPC, serveHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		answerGRPC(w, "\x00\x00\x00\x00\x02\x08\x01", "0")
	}), ample)
	expect(t, i, pass(app.OK))
	r := <-seen
	got := r.Proto + " " + r.Method + " " + r.Host + r.RequestURI + " " + r.Header.Get("Content-Type") + " " + r.Header.Get("TE")
	want := "HTTP/2.0 POST " + i.Address + "/grpc.health.v1.Health/Check application/grpc trailers"
	if got != want || r.UserAgent() != "rollcall-probe" {
		t.Errorf("request is %s by %s, want %s", got, r.UserAgent(), want)
	}
}

func TestGRPCAnswers(t *testing.T) {
	t.Parallel()
	malformed := fail(app.BadAnswer, "not a HealthCheckResponse")
	for name, c := range map[string]struct {
		body, status string
		want         app.Result
	}{
		"serving":         {"\x00\x00\x00\x00\x02\x08\x01", "0", pass(app.OK)},
		"unknown fields":  {"\x00\x00\x00\x00\x09\x12\x02hi\x08\x01\x1a\x01x", "0", pass(app.OK)},
		"default":         {"\x00\x00\x00\x00\x00", "0", fail(app.NotServing, "UNKNOWN")},
		"no message":      {"", "0", malformed},
		"compressed":      {"\x01\x00\x00\x00\x02\x08\x01", "0", malformed},
		"half a message":  {"\x00\x00\x00\x00\x02\x08", "0", malformed},
		"two messages":    {"\x00\x00\x00\x00\x02\x08\x01\x00\x00\x00\x00\x02\x08\x01", "0", malformed},
		"unavailable":     {"", "14", fail(app.BadAnswer, "gRPC status UNAVAILABLE")},
		"no status":       {"\x00\x00\x00\x00\x02\x08\x01", "", fail(app.BadAnswer, "gRPC status missing or unknown")},
		"unknown status":  {"", "99", fail(app.BadAnswer, "gRPC status missing or unknown")},
		"status in words": {"", "OK", fail(app.BadAnswer, "gRPC status missing or unknown")},
		"long":            {strings.Repeat("x", 4000), "0", fail(app.BadAnswer, "longer than a probe reads")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := serveHTTP2(t, func(w http.ResponseWriter, _ *http.Request) { answerGRPC(w, c.body, c.status) })
			expect(t, instance(app.GRPC, address, ample), c.want)
		})
	}
}

func TestGRPCProbeOfAnHTTPServer(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	expect(t, instance(app.GRPC, plain.Listener.Addr().String(), ample), fail(app.BadAnswer, `begins "HTTP/1.1"`))
	two := serveHTTP2(t, http.NotFound)
	expect(t, instance(app.GRPC, two, ample), fail(app.BadAnswer, "HTTP/2 without gRPC, status 404"))
}

func TestGRPCReadsABoundedAnswer(t *testing.T) {
	t.Parallel()
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	tooLong := fail(app.BadAnswer, "longer than a probe reads")
	for name, c := range map[string]struct {
		first, more string
		want        app.Result
	}{
		"pings":          {settings, "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678", tooLong},
		"settings":       {settings, settings, tooLong},
		"unknown frames": {settings, "\x00\x00\x04\x7f\x00\x00\x00\x00\x00abcd", tooLong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := listen(t, func(conn net.Conn) {
				go silent(conn) // reads the frames of the probe
				repeats(c.first, c.more)(conn)
			})
			expect(t, instance(app.GRPC, address, ample), c.want)
		})
	}
	t.Run("body", func(t *testing.T) {
		t.Parallel()
		address := serveHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			for _, err := w.Write(nil); err == nil; _, err = w.Write(make([]byte, 512)) {
			}
		})
		expect(t, instance(app.GRPC, address, ample), tooLong)
	})
}

func TestUnknownFramesAreIgnored(t *testing.T) {
	t.Parallel()
	const settings, unknown = "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x02\x0a\x00\x00\x00\x00\x00xy"
	for name, size := range map[string]int{"at once": 1000, "byte by byte": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := listen(t, func(c net.Conn) {
				awaitHeaders(c)
				for part := range slices.Chunk([]byte(settings+unknown+unknown+unauthenticated()), size) {
					_, _ = c.Write(part)
				}
				silent(c)
			})
			expect(t, instance(app.GRPC, address, ample), pass(app.OK))
		})
	}
}

// awaitHeaders reads an HTTP/2 connection up to the headers of the first request.
func awaitHeaders(c net.Conn) {
	_, _ = io.ReadFull(c, make([]byte, len(http2.ClientPreface)))
	framer := http2.NewFramer(io.Discard, c)
	for f, err := framer.ReadFrame(); err == nil; f, err = framer.ReadFrame() {
		if f.Header().Type == http2.FrameHeaders {
			return
		}
	}
}

// unauthenticated returns the HTTP/2 frame with which a gRPC server asks for credentials.
func unauthenticated() string {
	var fields, frame bytes.Buffer
	encoder := hpack.NewEncoder(&fields)
	for _, f := range []hpack.HeaderField{
		{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}, {Name: "grpc-status", Value: "16"},
	} {
		_ = encoder.WriteField(f)
	}
	_ = http2.NewFramer(&frame, nil).WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: fields.Bytes(), EndHeaders: true, EndStream: true,
	})
	return frame.String()
}

func TestGRPCAnswersThatAreNotHTTP2(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]app.Result{
		"SSH-2.0-OpenSSH_9.2p1\r\n":                            fail(app.BadAnswer, `begins "SSH-2.0-O"`),
		"\x15\x03\x01\x00\x02\x02\x0a and so on":               fail(app.BadAnswer, `begins "\x15\x03\x01\x00\x02\x02"`),
		"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678":         fail(app.BadAnswer, `begins "\x00\x00\b\x06\x00\x00\x00\x00\x00"`),
		"\x00\x00\x00\x04\x00\x00\x00\x00\x00":                 fail(app.ClosedEarly, ""),
		"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x08\x07": fail(app.ClosedEarly, ""),
		"\x00\x00": fail(app.ClosedEarly, ""),
	} {
		t.Run(want.Reason(), func(t *testing.T) {
			t.Parallel()
			address := listen(t, func(c net.Conn) {
				_, _ = c.Read(make([]byte, 4096))
				_, _ = c.Write([]byte(answer))
				_ = c.(*net.TCPConn).CloseWrite()
				silent(c)
			})
			expect(t, instance(app.GRPC, address, ample), want)
		})
	}
}

func serveGRPC(t *testing.T, s *grpc.Server) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func serveHTTP2(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handle)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func answerGRPC(w http.ResponseWriter, body, status string) {
	w.Header().Set("Content-Type", "application/grpc+proto")
	_, _ = w.Write([]byte(body))
	w.(http.Flusher).Flush()
	if status != "" {
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
	}
}
