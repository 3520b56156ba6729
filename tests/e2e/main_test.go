// Package e2e tests the program from the outside: it builds the binary, with the race detector, and
// runs it as processes against a private redis-server for each test. The tests do not depend on the
// speed of the machine: they wait for conditions, with bounds that only a defect exceeds.
package e2e

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"rollcall/tests/proctest"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(historyRole); role != "" {
		os.Exit(runWithShortBuckets(role))
	}
	flag.Parse()
	// The tests mostly wait. With the default, one test per core, they would wait for each other.
	if p := flag.Lookup("test.parallel"); p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", "8")
	}
	os.Exit(proctest.Main(m).Run())
}

// throughout fails the test if check fails at any time in d.
func throughout(t testing.TB, d time.Duration, check func() error) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err := check(); err != nil {
			t.Fatalf("%s before the end: %v", time.Until(end), err)
		}
	}
}
