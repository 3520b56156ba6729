// Package chaos injects faults under load, and compares the results of users, callers and subscribers
// with Rollcall's promises. The program runs as separate processes, built with the race detector. The
// faults are real: processes are killed and frozen, Redis loses its memory or its disk, routes are
// removed. The package runs a selection unless ROLLCALL_CHAOS is all.
//
// Bounds that depend on the machine grow with the time that the machine makes processes wait
// (harness.Stalls). Promises do not.
package chaos

import (
	"os"
	"testing"

	"rollcall/tests/harness"
)

// all selects every row, at full length.
var all = os.Getenv("ROLLCALL_CHAOS") == "all"

func TestMain(m *testing.M) { os.Exit(harness.Main(m, 4).Run()) }
