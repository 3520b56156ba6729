package harness

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

// Ports below the range that the system assigns, for connections and for port 0.
const (
	firstPort = 12_000
	ports     = 20_000
)

var nextPort atomic.Int64

// FreePort returns an unused port on loopback, for a program that cannot listen on port 0. It returns
// no port twice in a test process, and the system does not assign the port.
func FreePort(t testing.TB) int {
	t.Helper()
	for range ports {
		port := firstPort + (os.Getpid()*97+int(nextPort.Add(1)))%ports
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("there is no free port")
	return 0
}
