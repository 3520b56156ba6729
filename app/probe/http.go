package probe

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"

	"rollcall/app"
)

const (
	// maxHeader limits the bytes of all headers, including interim answers (1xx). It is the limit of
	// the edge; curl's is 300 KB.
	maxHeader = 1 << 20
	// maxField is the number of bytes that a probe keeps of a header line: enough for the fields
	// that determine the end of the body.
	maxField = 256
	maxBody  = 4 << 10 // bytes of the body that a probe searches
	// maxEncoded limits the encoded size of those bytes: a chunk of one byte takes six.
	maxEncoded = 8 * maxBody
)

// exchange is the memory of one request and its answer.
type exchange struct {
	in   *bufio.Reader
	out  []byte
	line [maxField]byte
	body [maxBody]byte
}

var exchanges = sync.Pool{New: func() any { return &exchange{in: bufio.NewReader(nil)} }}

// probeHTTP passes if the status is one of the check's, the body contains the check's text, and
// the part of the answer that it reads is well-formed. It does not use net/http: http.Transport
// would more than double the cost of a probe outside the kernel, and http.ReadResponse keeps all
// headers in memory.
func probeHTTP(_ context.Context, c *conn, i app.Instance) (app.Result, error) {
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
		return otherProtocol(b)
	}
	a, err := x.readFinal()
	if err != nil {
		return app.Result{}, err
	}
	c.closing = a.status != http.StatusSwitchingProtocols
	if result, done := statusResult(i.Check, a.status); done {
		return result, nil
	}
	c.left = maxEncoded
	encoded, err := a.body(x.in)
	if err != nil {
		return app.Result{}, err
	}
	body, err := readSome(encoded, x.body[:])
	if err != nil {
		return app.Result{}, err
	}
	return bodyResult(i.Check, a.status, body), nil
}

// statusResult returns the result of a status. It is not done if the body decides.
func statusResult(c app.Check, status int) (r app.Result, done bool) {
	code := app.Code(status) //nolint:gosec // three digits
	if !c.Statuses.Contains(status) {
		return failed(code, "want "+string(c.Statuses)), true
	}
	return passed(code), c.Method == http.MethodHead
}

// bodyResult returns the result of an answer with a status of the check.
func bodyResult(c app.Check, status int, body []byte) app.Result {
	if !bytes.Contains(body, []byte(c.Body)) {
		return failed(app.BodyMismatch, fmt.Sprintf("status %d, looked at %d bytes", status, len(body)))
	}
	return passed(app.Code(status)) //nolint:gosec // three digits
}

// An http2Error means that a server speaks only HTTP/2. It is the beginning of the answer.
type http2Error string

func (e http2Error) Error() string { return string(e) }

// otherProtocol returns the result of an answer that is not HTTP/1.
func otherProtocol(begin []byte) (app.Result, error) {
	switch {
	case isSettings(begin):
		return app.Result{}, http2Error(beginning(begin))
	case len(begin) > 1 && begin[0] == tlsAlert && begin[1] == tlsMajor:
		return failed(app.BadAnswer, "the port speaks TLS; give health=https:/path"), nil
	}
	return failed(app.BadAnswer, beginning(begin)), nil
}

// appendRequest appends the request to b. Path, host and address contain no space and no control
// character, and a header is well-formed, because registration refuses all others.
func appendRequest(b []byte, i app.Instance) []byte {
	b = append(b, cmp.Or(i.Check.Method, http.MethodGet)...)
	b = append(b, ' ')
	b = append(b, i.Check.Path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, hostHeader(i)...)
	if i.Check.Headers == "" {
		return append(b, "\r\nUser-Agent: "+userAgent+"\r\nAccept: */*\r\nConnection: close\r\n\r\n"...)
	}
	b = append(append(b, "\r\n"...), i.Check.Headers...)
	if !strings.Contains("\n"+i.Check.Headers, "\nAccept: ") {
		b = append(b, "Accept: */*\r\n"...)
	}
	return append(b, "User-Agent: "+userAgent+"\r\nConnection: close\r\n\r\n"...)
}

// hostHeader returns the host of the check, else the first vhost of an instance without a wildcard, else the probed address. Applications with a list
// of allowed hosts refuse the address. Like an address, a vhost contains no space and no control character.
func hostHeader(i app.Instance) string {
	if i.Check.Host != "" {
		return i.Check.Host
	}
	for _, host := range i.Hosts {
		if host[0] != '*' {
			return host
		}
	}
	return i.Target()
}

// answer is the head of an HTTP answer: the status, and the end of the body.
type answer struct {
	status  int
	old     bool  // HTTP/1.0 or older, which has no chunked encoding
	chunked bool  // takes precedence over length
	length  int64 // of the body; -1: until the server closes the connection
	// The end of the body is unknown: Content-Length is invalid or ambiguous, or the transfer
	// encoding is not chunked.
	badLength, badEncoding bool
}

// readFinal reads up to the end of the final answer's header.
func (x *exchange) readFinal() (a answer, err error) {
	for {
		if a, err = x.readHead(); err != nil || a.status >= 200 || a.status == http.StatusSwitchingProtocols {
			return a, err
		}
	}
}

// readHead reads the head of an answer. It accepts the same answers as curl and net/http. Its
// errors quote no part of the answer.
func (x *exchange) readHead() (answer, error) {
	line, err := x.readLine()
	if err != nil {
		return answer{}, err
	}
	a := answer{length: -1}
	if err := a.readStatusLine(string(line)); err != nil {
		return answer{}, err
	}
	var last field
	for {
		line, err := x.readLine()
		if err != nil {
			return answer{}, err
		}
		if last.continuedBy(line) {
			continue
		}
		if last.set != nil {
			last.set(&a, strings.TrimSpace(last.value))
		}
		if len(line) == 0 {
			return a, nil
		}
		if last, err = parseField(line); err != nil {
			return answer{}, err
		}
	}
}

// field is a header field. It is empty if it does not determine the end of the body.
type field struct {
	set   func(*answer, string) // stores the value in an answer; see setter
	value string
}

func parseField(line []byte) (field, error) {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok && len(line) < maxField {
		return field{}, errors.New("malformed header")
	}
	if set := setter(name); set != nil {
		return field{set, string(value)}, nil
	}
	return field{}, nil
}

// continuedBy reports whether a line continues the field, and appends it to the value.
func (f *field) continuedBy(line []byte) bool {
	if len(line) == 0 || line[0] != ' ' && line[0] != '\t' {
		return false
	}
	if f.set != nil && len(f.value) < maxField {
		f.value += " " + string(line)
	}
	return true
}

// readLine reads a line and returns its first maxField bytes at most, without the line end. The
// line is valid until the next read.
func (x *exchange) readLine() ([]byte, error) {
	line, err := x.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line = x.line[:copy(x.line[:], line)]
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = x.in.ReadSlice('\n')
		}
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	return line[:min(len(line), maxField)], err
}

// readStatusLine parses a line such as HTTP/1.1 200 OK. The reason phrase is optional.
func (a *answer) readStatusLine(line string) error {
	version, rest, _ := strings.Cut(line, " ")
	text, _, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	status, err := strconv.ParseUint(text, 10, 16)
	switch {
	case err != nil || len(text) != 3:
		return errors.New("malformed HTTP status code")
	case status < 100 || status > 599: // an app.Code means something else there
		return fmt.Errorf("has the status %03d", status)
	}
	major, minor, ok := http.ParseHTTPVersion(version)
	a.status, a.old = int(status), ok && (major < 1 || major == 1 && minor < 1)
	return nil
}

// setter returns the function that stores the value of a field in an answer, or nil if the field
// does not determine the end of the body.
func setter(name []byte) func(*answer, string) {
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		return (*answer).setLength
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		return (*answer).setEncoding
	}
	return nil
}

func (a *answer) setLength(value string) {
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil || (a.length >= 0 && a.length != int64(n)) {
		a.badLength = true
		return
	}
	a.length = int64(n)
}

// setEncoding stores Transfer-Encoding. HTTP/1.0 does not have this field.
func (a *answer) setEncoding(value string) {
	if a.old {
		return
	}
	a.badEncoding = a.chunked || !strings.EqualFold(value, "chunked")
	a.chunked = true
}

// body returns the decoded body. A truncated body ends with io.ErrUnexpectedEOF.
func (a answer) body(in *bufio.Reader) (io.Reader, error) {
	switch {
	case a.status < 200 || a.status == http.StatusNoContent || a.status == http.StatusNotModified:
		return http.NoBody, nil
	case a.badEncoding:
		return nil, errors.New("unsupported transfer encoding")
	case a.chunked:
		return httputil.NewChunkedReader(in), nil
	case a.badLength:
		return nil, errors.New("bad Content-Length")
	case a.length >= 0:
		return &counted{in, a.length}, nil
	}
	return in, nil
}

// counted is a body of a known length.
type counted struct {
	in   io.Reader
	left int64
}

// Read returns io.EOF after the last byte, and io.ErrUnexpectedEOF if the server closes before.
func (c *counted) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.in.Read(b[:min(int64(len(b)), c.left)])
	if c.left -= int64(n); c.left > 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// readSome reads the body until buf is full or the body ends. A truncated body is an error.
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
