// Package e2e tests the program from the outside: it runs the program, built with the race detector, as processes or
// inside the test's own process, on a private redis-server or a private prefix, and uses it as its users do: with HTTP, the
// command line, a proxy and a browser. The tests do not depend on the speed of the machine: they wait for conditions, with
// bounds that only a defect exceeds.
package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// asProgram is the variable that makes this binary run as one of programs.
const asProgram = "E2E_PROGRAM"

// programs are the programs that this binary can run as. They return their exit code.
var programs = map[string]func() int{
	"linked":       linked,
	"history web":  func() int { return runWithShortBuckets("web") },
	"history cron": func() int { return runWithShortBuckets("cron") },
}

func TestMain(m *testing.M) {
	if name, ok := os.LookupEnv(asProgram); ok {
		program := programs[name]
		if program == nil {
			fmt.Fprintf(os.Stderr, "%s is %q, which is no program of these tests\n", asProgram, name)
			os.Exit(2)
		}
		os.Exit(program())
	}
	os.Exit(harness.Main(m).Run())
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

// loadFor returns how long a test puts load on its processes: usual, or E2E_LOAD, as in E2E_LOAD=10m.
func loadFor(t testing.TB, usual time.Duration) time.Duration {
	t.Helper()
	given, ok := os.LookupEnv("E2E_LOAD")
	if !ok {
		return usual
	}
	d, err := time.ParseDuration(given)
	if err != nil {
		t.Fatalf("E2E_LOAD: %v", err)
	}
	return d
}
