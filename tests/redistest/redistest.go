// Package redistest gives tests a real redis-server: one that all tests of a binary share, each with a
// key prefix, or a private one to stop, kill, freeze and restart. Tests never flush the shared server, so
// they run in parallel. Without a redis-server on PATH a test is skipped; with CI set it fails.
package redistest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
)

// shared is the server of New. Main stops it, and it dies with the test binary, so a missing Main or a
// panic leaves no process.
var shared struct {
	sync.Mutex
	server *Server
}

// New returns a client of the server that all tests of this binary share. The first call starts the
// server. The client is closed when the test ends.
func New(t testing.TB) *redis.Client {
	t.Helper()
	return sharedServer(t).Client(t)
}

func sharedServer(t testing.TB) *Server {
	t.Helper()
	requireRedis(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		s, err := launchUnix()
		if err != nil {
			t.Fatal(err)
		}
		shared.server = s
	}
	return shared.server
}

var prefixes atomic.Int64

// Prefix returns a unique key prefix, also for repeated runs with -count.
func Prefix(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', r == '/':
			return r
		}
		return '_' // nothing a glob pattern or Redis Cluster gives a meaning to
	}, t.Name())
	return fmt.Sprintf("%s/%d:", name, prefixes.Add(1))
}

// Main wraps m so that the shared server stops after the tests. Use it as
//
//	func TestMain(m *testing.M) { os.Exit(redistest.Main(m).Run()) }
//
// or pass it to goleak.VerifyTestMain.
func Main(m *testing.M) interface{ Run() int } { return runner{m} }

type runner struct{ m *testing.M }

func (r runner) Run() int {
	defer func() {
		shared.Lock()
		defer shared.Unlock()
		if shared.server != nil {
			shared.server.discard()
			shared.server = nil
		}
	}()
	return r.m.Run()
}

func requireRedis(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath(binary); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not on PATH, and CI is set", binary)
	}
	t.Skipf("%s is not on PATH", binary)
}
