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

// changeSignals are the signals that can tell a command of a change.
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

// parseSignal parses the name or the number of a signal that can be forwarded.
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
	return s, canForward(s)
}

// canForward reports whether this process can catch a signal for the command. CHLD concerns its own children, and the
// Go runtime uses URG and PROF itself.
func canForward(s syscall.Signal) bool {
	own := []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPROF}
	reserved := s >= 32 && s <= 34 // by C libraries, for threads
	return s >= 1 && s <= lastRealTime && !reserved && !slices.Contains(own, s)
}

// forwarded returns the signals to forward to the command. A signal that was ignored at the start stays ignored, in
// the command as well.
func forwarded() []os.Signal {
	var list []os.Signal
	for s := syscall.Signal(1); s <= lastRealTime; s++ {
		if canForward(s) && !signal.Ignored(s) {
			list = append(list, s)
		}
	}
	return list
}

// exitCode returns the exit code that a shell would return: 128 + n after signal n.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
