// Package redistest gives tests a real redis-server: one that all tests of a
// binary share, told apart by a key prefix, or one of their own to stop, kill,
// freeze and restart. Nothing is flushed, so tests run in parallel. Without a
// redis-server on PATH a test is skipped, and fails when CI is set.
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

// shared is the server of New. It is stopped by Main and dies with the test
// binary, so a forgotten Main or a panic leaves no process behind.
var shared struct {
	sync.Mutex
	server *Server
}

// New returns a client of the server all tests of this binary share. The server
// is started by the first call; the client is closed when the test ends.
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

// Prefix returns a key prefix nobody else uses, not even the same test run again
// with -count.
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

// Main wraps m so that the shared server stops when the tests have run. Use it as
//
//	func TestMain(m *testing.M) { os.Exit(redistest.Main(m).Run()) }
//
// or hand it to goleak.VerifyTestMain.
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
