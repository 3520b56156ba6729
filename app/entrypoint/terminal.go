//go:build unix

package entrypoint

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal is the controlling terminal. The supervisor stays in the foreground, so that Ctrl-C drains before the
// command receives it. A command that reads the terminal is interactive: it gets the foreground, and Ctrl-C.
type terminal struct{ tty *os.File } // nil: no terminal

func openTerminal() terminal {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return terminal{}
	}
	return terminal{tty}
}

func (t terminal) foreground() (group int) {
	group, err := unix.IoctlGetInt(int(t.tty.Fd()), unix.TIOCGPGRP)
	if err != nil {
		return -1
	}
	return group
}

func (t terminal) give(group int) {
	_ = unix.IoctlSetPointerInt(int(t.tty.Fd()), unix.TIOCSPGRP, group) // after a failure, the command stops again
}

// stopped continues a command that the terminal has stopped, in the foreground. If the supervisor is in the
// background itself, the command stays stopped until the supervisor receives CONT.
func (t terminal) stopped(command int, s syscall.Signal) {
	if t.tty == nil || !isStop(s) {
		return
	}
	switch t.foreground() {
	case unix.Getpgrp():
		t.give(command)
		fallthrough
	case command:
		_ = syscall.Kill(-command, syscall.SIGCONT)
	}
}

// isStop reports whether a terminal stops commands with a signal.
func isStop(s os.Signal) bool {
	return s == syscall.SIGTSTP || s == syscall.SIGTTIN || s == syscall.SIGTTOU
}

// close takes the foreground back after the end of the command.
func (t terminal) close(command int) {
	if t.tty == nil {
		return
	}
	if t.foreground() == command {
		signal.Ignore(syscall.SIGTTOU) // the kernel sends it to a process in the background
		t.give(unix.Getpgrp())
	}
	_ = t.tty.Close()
}

// send sends the command a signal. The signals of a terminal go to the whole group. Ctrl-Z stays with the supervisor:
// no process could continue the command.
func (t terminal) send(command *os.Process, s os.Signal) {
	switch {
	case t.tty == nil:
	case isStop(s):
		return
	case s == syscall.SIGINT, s == syscall.SIGQUIT, s == syscall.SIGWINCH:
		_ = syscall.Kill(-command.Pid, s.(syscall.Signal)) //nolint:forcetypeassert // all of them are
		return
	}
	_ = command.Signal(s)
}
