//go:build unix

package entrypoint

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// changeSignals is the signals that a command can be told by that something has changed.
var changeSignals = map[string]os.Signal{
	"HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "TERM": syscall.SIGTERM,
}

// The real-time signals as Linux with glibc and Docker number them.
const (
	firstRealTime = 34
	lastRealTime  = 64
)

// signalName returns a signal's name without SIG, such as TERM or RTMIN+3.
func signalName(s os.Signal) string {
	n, _ := s.(syscall.Signal)
	if n >= firstRealTime {
		return fmt.Sprintf("RTMIN+%d", int(n)-firstRealTime)
	}
	return strings.TrimPrefix(unix.SignalName(n), "SIG")
}

// parseSignal reads the name or the number of a signal that can be passed on.
func parseSignal(text string) (syscall.Signal, bool) {
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	n, err := strconv.Atoi(name)
	for prefix, base := range map[string]int{"RTMIN": firstRealTime, "RTMAX": lastRealTime} {
		if offset, found := strings.CutPrefix(name, prefix); found {
			n, err = strconv.Atoi("0" + strings.TrimLeft(offset, "+-"))
			if strings.HasPrefix(offset, "-") {
				n = -n
			}
			n += base
		}
	}
	if err != nil {
		n = int(unix.SignalNum("SIG" + name))
	}
	s := syscall.Signal(n)
	return s, canPassOn(s)
}

// canPassOn reports whether this process can catch a signal that is meant for the command.
// CHLD is about its own children. The Go runtime keeps URG and PROF to itself.
func canPassOn(s syscall.Signal) bool {
	own := []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPROF}
	reserved := s >= 32 && s <= 34 // by C libraries, for threads
	return s >= 1 && s <= lastRealTime && !reserved && !slices.Contains(own, s)
}

// passedOn lists the signals to catch for the command. A signal that was ignored from the
// start stays ignored, in the command as well.
func passedOn() []os.Signal {
	var list []os.Signal
	for s := syscall.Signal(1); s <= lastRealTime; s++ {
		if canPassOn(s) && !signal.Ignored(s) {
			list = append(list, s)
		}
	}
	return list
}

// exitCode is a process's exit code as shells have it: 128 + n when a signal ended it.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
