package probe

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"

	"rollcall/app"
)

// maxLine is the maximum length of an answer's line, in bytes.
const maxLine = 512

// memcachedText has the length of a binary header: a server that speaks only the binary
// protocol reads that many bytes before it closes the connection.
const memcachedText = "version\r\nversion\r\nquit\r\n"

// probeMemcached passes if the server returns its version or requires a password.
func probeMemcached(_ context.Context, c *conn, _ app.Instance) (app.Result, error) {
	line, err := command(c, memcachedText)
	switch {
	case err != nil:
		return app.Result{}, err
	case bytes.HasPrefix(line, []byte("VERSION ")), bytes.HasPrefix(line, []byte("CLIENT_ERROR unauthenticated")):
		return passed(app.OK), nil
	}
	return failed(app.BadAnswer, beginning(line)), nil
}

// A message of memcached's binary protocol has a header of 24 bytes, which begins with a magic
// number and the command.
const (
	memcachedHeader   = 24
	memcachedRequest  = "\x80"
	memcachedResponse = "\x81"
	memcachedVersion  = "\x0b"
	memcachedQuitQ    = "\x17" // quit, without an answer
)

// probeBinaryMemcached passes if the server answers the binary version command, with any status.
// Servers with SASL speak only the binary protocol and close the connection at the first line of
// text.
func probeBinaryMemcached(_ context.Context, c *conn, _ app.Instance) (app.Result, error) {
	rest := strings.Repeat("\x00", memcachedHeader-2)
	if _, err := io.WriteString(c, memcachedRequest+memcachedVersion+rest+memcachedRequest+memcachedQuitQ+rest); err != nil {
		return app.Result{}, err
	}
	c.left = memcachedHeader
	var header [memcachedHeader]byte
	if _, err := io.ReadFull(c, header[:]); err != nil {
		return app.Result{}, err
	}
	c.closing = true
	if string(header[:2]) != memcachedResponse+memcachedVersion {
		return failed(app.BadAnswer, beginning(header[:])), nil
	}
	return passed(app.OK), nil
}

// probeRedis passes if the server answers PONG, or requires a password or a permission. Such a
// server is alive; authentication is a matter between the server and its clients.
func probeRedis(_ context.Context, c *conn, _ app.Instance) (app.Result, error) {
	line, err := command(c, "PING\r\nQUIT\r\n")
	if err != nil {
		return app.Result{}, err
	}
	word := firstWord(line)
	switch word {
	case "+PONG", "-NOAUTH", "-NOPERM", "-WRONGPASS":
		return passed(app.OK), nil
	}
	if bytes.HasPrefix(line, []byte("-ERR operation not permitted")) { // Redis 2.6 and older
		return passed(app.OK), nil
	}
	if reason, isError := strings.CutPrefix(word, "-"); isError {
		return failed(app.NotServing, reason), nil // LOADING, MASTERDOWN, BUSY, DENIED, ...
	}
	return failed(app.BadAnswer, beginning(line)), nil
}

// command sends commands, of which the last one is quit, and returns the first line of the
// answer.
func command(c *conn, s string) ([]byte, error) {
	if _, err := io.WriteString(c, s); err != nil {
		return nil, err
	}
	c.left = maxLine
	line, err := bufio.NewReaderSize(c, maxLine+1).ReadSlice('\n') // never full: the limit of c is lower
	c.closing = err == nil
	return line, err
}
