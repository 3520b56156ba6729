package probe_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"rollcall/app"
	"rollcall/app/probe"
)

func FuzzAnswer(f *testing.F) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 204\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nA: b\r\n\r\n",
		"VERSION 1.6.18\r\n", "+PONG\r\n", "-NOAUTH x\r\n",
	} {
		f.Add(answer, "ok")
	}
	f.Fuzz(func(t *testing.T, answer, body string) {
		for _, kind := range []app.Kind{app.HTTP, app.Memcached, app.Redis} {
			i := instance(kind, "10.0.0.7:80", ample)
			i.Check.Body = body
			r := probe.ResultOf(i, []byte(answer))
			sane(t, r)
			if kind == app.HTTP && r.Passed != (r.Code >= 200 && r.Code <= 399) {
				t.Errorf("%q: passed is %t with %s", answer, r.Passed, r.Reason())
			}
			if kind != app.HTTP && r.Passed != (r.Code == app.OK) {
				t.Errorf("%q: passed is %t with %s", answer, r.Passed, r.Reason())
			}
		}
	})
}

// FuzzHTTPAnswer compares with net/http, which the edge uses: an answer that net/http accepts has
// the same status and the same body for a probe.
func FuzzHTTPAnswer(f *testing.F) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 404\r\n\r\nbody", "HTTP/0.1 200 \nTransfer-Encoding: 0\n\nx", "HTTP/1.0  200 OK\nTransfer-Encoding: chunked\n\nx",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nA: b\r\n\r\n", "HTTP/1.1 204 x\r\nContent-Length: 9\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length:\r\n 2\r\n\r\nok",
	} {
		f.Add(answer)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4000 {
			return
		}
		theirs, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
		if err != nil || theirs.StatusCode < 200 || theirs.StatusCode > 599 {
			return
		}
		body, err := io.ReadAll(theirs.Body)
		if err != nil {
			return
		}
		i := instance(app.HTTP, "10.0.0.7:80", ample)
		i.Check.Statuses = "100-599"
		i.Check.Body = string(body)
		if r := probe.ResultOf(i, []byte(text)); !r.Passed || int(r.Code) != theirs.StatusCode {
			t.Errorf("%q: %s; net/http reads status %d and %q", text, r.Reason(), theirs.StatusCode, body)
		}
	})
}

// Both parsers must read a message alike if both accept it. parseHealth refuses groups, which the
// other accepts, and accepts some invalid field numbers.
func FuzzParseHealth(f *testing.F) {
	for _, m := range []string{"", "\x08\x01", "\x12\x02hi\x08\x02", "\x09\x00\x00\x00\x00\x00\x00\x00\x00", "\x0d\x00\x00\x00\x00", "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		f.Add([]byte(m))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) > 255 {
			return
		}
		framed := append([]byte{0, 0, 0, 0, byte(len(message))}, message...)
		status, ok := probe.ParseHealth(framed)
		var theirs grpc_health_v1.HealthCheckResponse
		if err := proto.Unmarshal(message, &theirs); ok && err == nil && int32(status) != int32(theirs.GetStatus()) {
			t.Errorf("%x: status %d, want %d", message, status, theirs.GetStatus())
		}
	})
}
