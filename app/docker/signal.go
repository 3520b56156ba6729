package docker

import (
	"strconv"
	"strings"
)

// signals are the numbers that Linux gives to the usual stop signals. The agent may run on another system.
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "KILL": 9, "USR1": 10, "USR2": 12, "TERM": 15, "WINCH": 28, "PWR": 30, "RTMIN+3": 37,
}

// isStopSignal reports whether a signal, as an event gives it, is the stop signal of a container. Without one in the
// container's configuration it is SIGTERM.
func isStopSignal(sent, configured string) bool {
	if configured == "" {
		configured = "TERM"
	}
	return signalNumber(sent) != 0 && signalNumber(sent) == signalNumber(configured)
}

// signalNumber returns 0 for an unknown signal.
func signalNumber(s string) int {
	if n, err := strconv.Atoi(s); err == nil {
		return n
	}
	return signals[strings.TrimPrefix(strings.ToUpper(s), "SIG")]
}
