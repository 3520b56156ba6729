package harness

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
)

// DialsAgain is the function of go-redis that dials a lost Redis once a second. It ends up to a second after its client is
// closed, which goleak does not wait for.
const DialsAgain = "github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"

// SharedRedis returns a client of the server that all tests of a package share, each with a Prefix. Tests never flush it.
// The first call starts the server; Main stops it, and it dies with the test binary. The client is closed when the test ends.
func SharedRedis(t testing.TB) *redis.Client {
	t.Helper()
	Need(t, redisServer)
	s, err := sharedServer()
	if err != nil {
		t.Fatal(err)
	}
	return s.Client(t)
}

var sharedServer = sync.OnceValues(func() (*Server, error) {
	s, err := launchUnix()
	if err == nil {
		AtEnd(func() error { s.discard(); return nil })
	}
	return s, err
})

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
