package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"rollcall/app"
)

const (
	// maxGRPC is the number of bytes that a probe reads of a connection: settings, headers,
	// message and trailers.
	maxGRPC = 64 << 10
	// maxFramed is the number of bytes that a probe reads of the answer's body. Its one
	// message has two bytes.
	maxFramed = 1 << 10
)

// The gRPC statuses of an unknown service, and of a server that requires credentials.
const (
	statusNotFound         = "5"
	statusPermissionDenied = "7"
	statusUnauthenticated  = "16"
)

// probeGRPC calls grpc.health.v1.Health/Check without a service name, which asks for the
// health of the whole server. It passes on SERVING, and if the server requires credentials.
func probeGRPC(ctx context.Context, c *conn, i app.Instance) (app.Result, error) {
	c.left = maxGRPC
	return callHealth(ctx, c, nil, i)
}

// callHealth is probeGRPC, over TLS unless secure is nil.
func callHealth(ctx context.Context, c *conn, secure *tls.Conn, i app.Instance) (app.Result, error) {
	scheme := "http"
	if secure != nil {
		scheme = "https"
	}
	request, err := healthRequest(ctx, scheme, i.Target(), i.Check.GRPCService)
	if err != nil {
		return app.Result{}, err
	}
	return roundTrip(c, secure, request, func(r *http.Response) (app.Result, error) { return responseResult(r, i.Check.GRPCService) })
}

// healthRequest returns the call of Health/Check on the server at target. Without a service it asks for the whole server.
func healthRequest(ctx context.Context, scheme, target, service string) (*http.Request, error) {
	var message []byte // a HealthCheckRequest: the name is field 1
	if service != "" {
		message = append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service))), service...)
	}
	framed := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))) //nolint:gosec // health has at most 512 bytes; 0: not compressed
	request, err := http.NewRequestWithContext(ctx, http.MethodPost,
		scheme+"://"+target+"/grpc.health.v1.Health/Check", bytes.NewReader(append(framed, message...)))
	if err != nil {
		return nil, err
	}
	request.Header = http.Header{
		"Content-Type": {"application/grpc"},
		"Te":           {"trailers"},
		"User-Agent":   {userAgent},
	}
	return request, nil
}

// responseResult protocols the response to the call of Health/Check.
func responseResult(r *http.Response, service string) (app.Result, error) {
	switch r.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden: // gRPC maps them to the statuses below
		return passed(app.OK), nil
	}
	if r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		return failed(app.BadAnswer, fmt.Sprintf("HTTP/2 without gRPC, status %d", r.StatusCode)), nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxFramed+1))
	if err != nil {
		return app.Result{}, err
	}
	if len(body) > maxFramed {
		return app.Result{}, errTooLong
	}
	// An error without a message has its status in the header, every other answer in the trailer.
	status := cmp.Or(r.Trailer.Get("Grpc-Status"), r.Header.Get("Grpc-Status"))
	switch status {
	case "0":
		return healthResult(body), nil
	case statusPermissionDenied, statusUnauthenticated:
		return passed(app.OK), nil
	case statusNotFound:
		if service != "" {
			return failed(app.NotServing, fmt.Sprintf("no gRPC service is named %.80q; give health=grpc:NAME with a name of the server's health service", service)), nil
		}
	}
	return failed(app.BadAnswer, "gRPC status "+statusName(status)), nil
}

// healthResult protocols a framed HealthCheckResponse.
func healthResult(framed []byte) app.Result {
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

// parseHealth returns the status, field 1, of a framed HealthCheckResponse and skips unknown
// fields. A message without the field has the status 0.
func parseHealth(framed []byte) (status uint64, ok bool) {
	if len(framed) < 5 || framed[0] != 0 || int64(binary.BigEndian.Uint32(framed[1:])) != int64(len(framed)-5) {
		return 0, false
	}
	for rest := framed[5:]; len(rest) > 0; {
		var tag, value uint64
		if tag, value, rest, ok = cutField(rest); !ok {
			return 0, false
		}
		if tag == 1<<3 { // field 1, a varint
			status = value
		}
	}
	return status, true
}

// cutField cuts the first field off a protobuf message. value is valid for varints only.
func cutField(b []byte) (tag, value uint64, rest []byte, ok bool) {
	tag, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, 0, nil, false
	}
	b = b[n:]
	value, n = binary.Uvarint(b)
	size := uint64(max(n, 0)) // of the field's value
	switch tag & 7 {
	case 0: // varint
	case 1: // 64 bits
		size = 8
	case 2: // length and bytes
		if n <= 0 || value > uint64(len(b)) {
			return 0, 0, nil, false
		}
		size += value
	case 5: // 32 bits
		size = 4
	default:
		return 0, 0, nil, false
	}
	if size == 0 || size > uint64(len(b)) {
		return 0, 0, nil, false
	}
	return tag, value, b[size:], true
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
