// Package e2e tests the program from the outside: it builds the binary, with the race
// detector, and runs it as processes of its own against a redis-server of each test's
// own. Nothing in it depends on how fast the machine is: tests wait for facts, within
// bounds that only a program that does not do its work exceeds.
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
	flag.Parse()
	// The tests wait much more than they compute: the default, a test per core, would
	// have them wait for each other.
	if p := flag.Lookup("test.parallel"); p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", "8")
	}
	os.Exit(proctest.Main(m).Run())
}

// throughout fails the test when check finds something wrong at any time in d.
func throughout(t testing.TB, d time.Duration, check func() error) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err := check(); err != nil {
			t.Fatalf("%s before the end: %v", time.Until(end), err)
		}
	}
}
