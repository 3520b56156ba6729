//go:build unix

package entrypoint

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// healthCommand checks the health of the supervised command by another command.
type healthCommand struct {
	command string
	timeout time.Duration
	environ []string
	reaper  *reaper
}

// run runs the health command, by a shell if there is one. The note is the last line of its output, or the reason
// of the failure.
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
	c := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // the operator names it
	c.Env, c.Stdout, c.Stderr = h.environ, &out, &out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Cancel ends all its children
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second // a child outside the group may keep the output open
	err := h.reaper.start(c)
	if err == nil {
		err = h.reaper.wait(c)
	}
	note = out.line()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return true, note
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return false, "no result within " + h.timeout.String()
	}
	return false, cmp.Or(note, failureOf(c, err))
}

// failureOf words the failure of a command that printed nothing.
func failureOf(c *exec.Cmd, err error) string {
	if c.ProcessState == nil {
		return noteOf(err.Error())
	}
	return fmt.Sprintf("exit code %d", exitCode(c.ProcessState.Sys().(syscall.WaitStatus)))
}

// lastBytes keeps the last bytes written to it.
type lastBytes struct{ kept []byte }

func (l *lastBytes) Write(p []byte) (int, error) {
	const limit = 4 << 10
	l.kept = append(l.kept, p...)
	if len(l.kept) > 2*limit {
		l.kept = append([]byte{}, l.kept[len(l.kept)-limit:]...)
	}
	return len(p), nil
}

func (l *lastBytes) line() string {
	text := bytes.TrimRight(l.kept, "\n")
	return noteOf(string(text[bytes.LastIndexByte(text, '\n')+1:]))
}

// noteOf returns a line in the form of a note: 200 bytes without control characters, quotes and backslashes.
func noteOf(line string) string {
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
