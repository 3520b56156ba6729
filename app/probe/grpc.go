package probe

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rollcall/app"
)

const (
	// maxHTTP2 is all that is read of a connection: settings, headers, message, trailers.
	maxHTTP2 = 64 << 10
	// maxFramed is all that is read of the answer's body. The one message in it has two bytes.
	maxFramed = 1 << 10
)

// The gRPC statuses of a server that wants credentials first.
const (
	statusPermissionDenied = "7"
	statusUnauthenticated  = "16"
)

// judgeGRPC calls grpc.health.v1.Health/Check with an empty service name, which asks
// about the server as a whole. It passes on SERVING, and when the server wants credentials
// first.
func judgeGRPC(ctx context.Context, c *conn, i app.Instance) (app.Result, error) {
	c.left = maxHTTP2
	target := i.Target()
	cc, err := newTransport(c).NewClientConn(ctx, "http", target)
	if err != nil {
		return app.Result{}, err
	}
	defer cc.Close()
	var request [5]byte // uncompressed, length 0: the empty message
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://"+target+"/grpc.health.v1.Health/Check", bytes.NewReader(request[:]))
	if err != nil {
		return app.Result{}, err
	}
	req.Header = http.Header{
		"Content-Type": {"application/grpc"},
		"Te":           {"trailers"},
		"User-Agent":   {userAgent},
	}
	resp, err := cc.RoundTrip(req) //nolint:bodyclose // the connection is closed, which ends everything
	if err != nil {
		return app.Result{}, err
	}
	c.resetOnClose() // the server has answered; gRPC has no way to ask it to close
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden: // gRPC maps them to the statuses below
		return passed(app.OK), nil
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc") {
		return failed(app.BadAnswer, fmt.Sprintf("HTTP/2 without gRPC, status %d", resp.StatusCode)), nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxFramed+1))
	if err != nil {
		return app.Result{}, err
	}
	if len(body) > maxFramed {
		return app.Result{}, errTooLong
	}
	// An error without a message comes in the header, everything else in the trailer.
	status := cmp.Or(resp.Trailer.Get("Grpc-Status"), resp.Header.Get("Grpc-Status"))
	switch status {
	case "0":
		return judgeHealth(body), nil
	case statusPermissionDenied, statusUnauthenticated: // the server is alive, for callers it knows
		return passed(app.OK), nil
	}
	return failed(app.BadAnswer, "gRPC status "+statusName(status)), nil
}

// newTransport returns a transport that speaks HTTP/2 without TLS on c and nothing else.
func newTransport(c *conn) *http.Transport {
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols:              &h2c,
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return newFrames(c), nil },
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		// A closed connection's memory is held this long, and by default for 5 s.
		IdleConnTimeout: time.Second,
	}
}

// judgeHealth judges a framed HealthCheckResponse.
func judgeHealth(framed []byte) app.Result {
	health, ok := parseHealth(framed)
	switch {
	case !ok:
		return failed(app.BadAnswer, "not a HealthCheckResponse")
	case health == 1:
		return passed(app.OK)
	case health < uint64(len(healthNames)):
		return failed(app.NotServing, healthNames[health])
	}
	return failed(app.NotServing, strconv.FormatUint(health, 10))
}

// parseHealth reads the status, field 1, out of a framed HealthCheckResponse and skips
// fields it does not know. A message without the field has the status 0.
func parseHealth(framed []byte) (status uint64, ok bool) {
	if len(framed) < 5 || framed[0] != 0 || int64(binary.BigEndian.Uint32(framed[1:])) != int64(len(framed)-5) {
		return 0, false
	}
	for b := framed[5:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, false
		}
		b = b[n:]
		value, n := binary.Uvarint(b)
		size := uint64(max(n, 0)) // of the field's value
		switch tag & 7 {
		case 0: // varint
			if tag>>3 == 1 {
				status = value
			}
		case 1: // 64 bits
			size = 8
		case 2: // length and bytes
			if n <= 0 || value > uint64(len(b)) {
				return 0, false
			}
			size += value
		case 5: // 32 bits
			size = 4
		default:
			return 0, false
		}
		if size == 0 || size > uint64(len(b)) {
			return 0, false
		}
		b = b[size:]
	}
	return status, true
}

var healthNames = [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

var statusNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
	"ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
	"OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

func statusName(status string) string {
	n, err := strconv.Atoi(status)
	if err != nil || n < 0 || n >= len(statusNames) {
		return "missing or unknown"
	}
	return statusNames[n]
}
