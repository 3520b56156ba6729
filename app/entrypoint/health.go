//go:build unix

package entrypoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// healthCommand finds out by a command whether the one that we run is well.
type healthCommand struct {
	command string
	timeout time.Duration
	environ []string
	reaper  *reaper
}

// run runs the command, by a shell if there is one. The note is the last line of its
// output, or says what went wrong.
func (h *healthCommand) run(ctx context.Context) (passed bool, note string) {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	args := []string{"sh", "-c", h.command}
	if _, err := exec.LookPath("sh"); err != nil {
		args = strings.Fields(h.command)
	}
	if len(args) == 0 {
		return false, "the command is empty"
	}
	var out lastBytes
	c := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // the container's own
	c.Env, c.Stdout, c.Stderr = h.environ, &out, &out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // to end it with all that it has started
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second // for those that have left the group and hold its output
	err := h.reaper.start(c)
	if err == nil {
		err = h.reaper.wait(c)
	}
	note = out.line()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return true, note
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return false, "no result within " + h.timeout.String()
	case c.ProcessState == nil:
		return false, plain(err.Error())
	case note == "":
		return false, fmt.Sprintf("exit code %d", exitCode(c.ProcessState.Sys().(syscall.WaitStatus)))
	}
	return false, note
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct{ kept []byte }

func (l *lastBytes) Write(p []byte) (int, error) {
	const enough = 4 << 10
	l.kept = append(l.kept, p...)
	if len(l.kept) > 2*enough {
		l.kept = append([]byte{}, l.kept[len(l.kept)-enough:]...)
	}
	return len(p), nil
}

func (l *lastBytes) line() string {
	text := bytes.TrimRight(l.kept, "\n")
	return plain(string(text[bytes.LastIndexByte(text, '\n')+1:]))
}

// plain makes a note of a line: what the API takes is 200 bytes of text without
// control characters, quotes and backslashes.
func plain(line string) string {
	line = strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r == '\\':
			return '/'
		case !strconv.IsPrint(r):
			return '?'
		}
		return r
	}, line)
	if len(line) > 200 {
		line = strings.ToValidUTF8(line[:200], "")
	}
	return line
}
