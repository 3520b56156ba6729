// Package chaos breaks things on purpose, under load, and compares what users, callers
// and subscribers get with what is promised. The program runs as processes of its own,
// built with the race detector; what breaks is real: processes are killed and frozen,
// Redis loses its memory or its disk, routes are taken away. A selection is run unless
// ROLLCALL_CHAOS is all.
//
// What depends on the machine has room that grows with how long the machine lets
// processes wait (proctest.Stalls); what is a promise has none.
package chaos

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	"rollcall/tests/proctest"
)

// all is whether everything is run, and at length.
var all = os.Getenv("ROLLCALL_CHAOS") == "all"

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests wait much more than they compute.
	if p := flag.Lookup("test.parallel"); p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", "4")
	}
	os.Exit(proctest.Main(m).Run())
}
