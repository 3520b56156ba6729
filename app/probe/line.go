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

// judgeMemcached passes when the server tells its version.
func judgeMemcached(_ context.Context, c *conn, _ app.Instance) (app.Result, error) {
	line, err := command(c, "version\r\n")
	switch {
	case err != nil:
		return app.Result{}, err
	case bytes.HasPrefix(line, []byte("VERSION ")):
		return passed(app.OK), nil
	}
	return failed(app.BadAnswer, beginning(line)), nil
}

// judgeRedis passes when the server says PONG, or that it would to somebody it
// knows: it is alive, and whether it serves is between it and its users.
func judgeRedis(_ context.Context, c *conn, _ app.Instance) (app.Result, error) {
	line, err := command(c, "PING\r\n")
	if err != nil {
		return app.Result{}, err
	}
	word := firstWord(line)
	switch word {
	case "+PONG", "-NOAUTH", "-NOPERM":
		return passed(app.OK), nil
	}
	if reason, isError := strings.CutPrefix(word, "-"); isError {
		return failed(app.NotServing, reason), nil // LOADING, MASTERDOWN, BUSY, DENIED, ...
	}
	return failed(app.BadAnswer, beginning(line)), nil
}

// command sends a command and returns the first line of the answer.
func command(c *conn, s string) ([]byte, error) {
	if _, err := io.WriteString(c, s); err != nil {
		return nil, err
	}
	c.left = maxLine
	return bufio.NewReaderSize(c, maxLine+1).ReadSlice('\n') // never full: the limit is c's
}
