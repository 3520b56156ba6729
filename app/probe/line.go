package probe

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"

	"rollcall/app"
)

// maxLine is how long a line of an answer may be, in bytes.
const maxLine = 512

// askMemcached has the length of a binary header: a server that speaks only the binary
// protocol waits for that many bytes before it closes the connection.
const askMemcached = "version\r\nversion\r\nquit\r\n"

// judgeMemcached passes when the server tells its version, or that it wants a password
// first.
func judgeMemcached(_ context.Context, c *conn, _ app.Instance) (app.Result, error) {
	line, err := command(c, askMemcached)
	switch {
	case err != nil:
		return app.Result{}, err
	case bytes.HasPrefix(line, []byte("VERSION ")), bytes.HasPrefix(line, []byte("CLIENT_ERROR unauthenticated")):
		return passed(app.OK), nil
	}
	return failed(app.BadAnswer, beginning(line)), nil
}

// The binary protocol of memcached: a header of 24 bytes begins with a magic number and
// the command.
const (
	memcachedHeader   = 24
	memcachedRequest  = "\x80"
	memcachedResponse = "\x81"
	memcachedVersion  = "\x0b"
	memcachedQuitQ    = "\x17" // quit, without an answer
)

// judgeBinaryMemcached passes when the server answers the binary version command, whatever
// the status. It is for servers with SASL, which speak only the binary protocol and close
// the connection at the first line of text.
func judgeBinaryMemcached(_ context.Context, c *conn, _ app.Instance) (app.Result, error) {
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

// judgeRedis passes when the server says PONG, or that it wants a password or permission
// first: it is alive, and whether it serves is between it and its users.
func judgeRedis(_ context.Context, c *conn, _ app.Instance) (app.Result, error) {
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

// command sends a command that ends with one to quit, and returns the first line of the
// answer.
func command(c *conn, s string) ([]byte, error) {
	if _, err := io.WriteString(c, s); err != nil {
		return nil, err
	}
	c.left = maxLine
	line, err := bufio.NewReaderSize(c, maxLine+1).ReadSlice('\n') // never full: the limit is c's
	c.closing = err == nil
	return line, err
}
