package probe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"sync"

	"rollcall/app"
)

const (
	maxHeader = 16 << 10 // bytes of all headers, the interim ones (1xx) included
	maxBody   = 4 << 10  // bytes of the body that are looked at
	// maxEncoded is what those may take on the wire: a chunk of one byte takes six.
	maxEncoded = 8 * maxBody
)

// exchange is the memory of one request and its answer.
type exchange struct {
	in   *bufio.Reader
	out  []byte
	body [maxBody]byte
}

var exchanges = sync.Pool{New: func() any { return &exchange{in: bufio.NewReader(nil)} }}

// judgeHTTP passes when the status is in the check's range and the body contains what
// it must, and the answer is whole as far as it is read. The request is written by
// hand: http.Transport, with a pool and goroutines that are of no use here, would more
// than double what a probe costs outside the kernel.
func judgeHTTP(_ context.Context, c *conn, i app.Instance) (app.Result, error) {
	x := exchanges.Get().(*exchange)
	defer exchanges.Put(x)
	x.in.Reset(c)
	defer x.in.Reset(nil)

	x.out = appendRequest(x.out[:0], i)
	if _, err := c.Write(x.out); err != nil {
		return app.Result{}, err
	}
	c.left = maxHeader
	if b, err := x.in.Peek(len("HTTP/")); err != nil {
		return app.Result{}, err
	} else if string(b) != "HTTP/" {
		b, _ = x.in.Peek(x.in.Buffered())
		return failed(app.BadAnswer, beginning(b)), nil
	}
	resp, err := readFinal(x.in) //nolint:bodyclose // closing would read the rest, however long
	if err != nil {
		return app.Result{}, err
	}
	code := app.Code(resp.StatusCode) //nolint:gosec // three digits
	if resp.StatusCode < i.Check.StatusMin || resp.StatusCode > i.Check.StatusMax {
		return failed(code, fmt.Sprintf("want %d to %d", i.Check.StatusMin, i.Check.StatusMax)), nil
	}
	c.left = maxEncoded
	body, err := readSome(resp.Body, x.body[:])
	if err != nil {
		return app.Result{}, err
	}
	if !bytes.Contains(body, []byte(i.Check.Body)) {
		return failed(app.BodyMismatch, fmt.Sprintf("status %d, looked at %d bytes", code, len(body))), nil
	}
	return passed(code), nil
}

// appendRequest appends the request to b. The path and the address hold no space
// and no control character: registration refuses them.
func appendRequest(b []byte, i app.Instance) []byte {
	b = append(b, "GET "...)
	b = append(b, i.Check.Path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, i.Target()...)
	return append(b, "\r\nUser-Agent: "+userAgent+"\r\nAccept: */*\r\nConnection: close\r\n\r\n"...)
}

// readFinal reads up to the end of the final answer's header.
func readFinal(in *bufio.Reader) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(in, nil)
		switch {
		case err != nil:
			return nil, withoutData(err)
		case resp.StatusCode < 100 || resp.StatusCode > 599: // an app.Code means something else there
			return nil, fmt.Errorf("has the status %03d", resp.StatusCode)
		case resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols:
			return resp, nil
		}
	}
}

// withoutData takes the answer's own text out of a parser's complaint and leaves
// other errors alone.
func withoutData(err error) error {
	if _, ok := errors.AsType[textproto.ProtocolError](err); ok {
		what, _, _ := strings.Cut(err.Error(), ":")
		return errors.New(what)
	}
	if what, _, quotes := strings.Cut(err.Error(), `"`); quotes {
		return errors.New(strings.TrimRight(what, " :["))
	}
	return err
}

// readSome fills buf from body and returns what there was. A body that breaks off is
// an error, one that is longer than buf is not.
func readSome(body io.Reader, buf []byte) ([]byte, error) {
	n := 0
	for n < len(buf) {
		m, err := body.Read(buf[n:])
		n += m
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return buf[:n], nil
}
