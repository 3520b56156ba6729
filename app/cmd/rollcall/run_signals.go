//go:build unix

package main

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// ending is the signals that tell a command to end.
var ending = map[os.Signal]string{syscall.SIGTERM: "TERM", syscall.SIGINT: "INT", syscall.SIGQUIT: "QUIT"}

// telling is the signals that a command can be told by that something has changed.
var telling = map[string]os.Signal{
	"HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "TERM": syscall.SIGTERM,
}

func ends(s os.Signal) bool { return ending[s] != "" }

func signalName(s os.Signal) string { return ending[s] }

// passedOn is the signals that are for the command: all but those that cannot be
// caught, that are about this process (its children, its faults, its terminal's ^Z) and
// that the Go runtime sends itself. What was ignored from the start stays ignored, in
// the command as well.
func passedOn() []os.Signal {
	own := []syscall.Signal{
		syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGCHLD, syscall.SIGPIPE, syscall.SIGURG, syscall.SIGPROF,
		syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGSEGV, syscall.SIGTRAP, syscall.SIGSYS,
	}
	var list []os.Signal
	for s := syscall.Signal(1); s <= 64; s++ {
		reserved := s == 32 || s == 33 // by the C library, for threads
		if !reserved && !slices.Contains(own, s) && !signal.Ignored(s) {
			list = append(list, s)
		}
	}
	return list
}

// exitCode is a process's exit code as shells have it: 128 + n when a signal ended it.
func exitCode(p *os.ProcessState) int {
	if p == nil {
		return 1
	}
	if status, ok := p.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.ExitCode()
}
