package redistest

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

// Ports below those that the system takes by itself, for connections and for port 0.
const (
	firstPort = 12_000
	ports     = 20_000
)

var nextPort atomic.Int64

// FreePort is a port on loopback that nobody listens on, for a program that cannot be given
// port 0. A test process is given none twice, and the system gives it to nobody by itself.
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
