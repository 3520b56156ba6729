// Package e2e tests the program from the outside: it builds the binary, with the race
// detector, and runs it as processes of its own against a redis-server of each test's
// own. Nothing in it depends on how fast the machine is: tests wait for facts, within
// bounds that only a program that does not do its work exceeds.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "rollcall/app/boot" // see build
)

// bound is how long a test waits for what takes a moment.
const bound = 30 * time.Second

// workdir holds the binary; it is gone after the tests.
var workdir string

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests wait much more than they compute: the default, a test per core, would
	// have them wait for each other.
	if p := flag.Lookup("test.parallel"); p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", "8")
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if workdir, err = os.MkdirTemp("", "rollcall-e2e"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(workdir)
	return m.Run()
}

// build compiles the program once. The binary is called rollcall, as in the Procfile.
var build = sync.OnceValues(func() (path string, err error) {
	// go test takes a package's last result again when it sees no change. It does not see
	// what go build reads, but it does see imports and the files that a test reads.
	sources, err := filepath.Glob("../../app/cmd/rollcall/*.go")
	for _, name := range sources {
		_, _ = os.ReadFile(name)
	}
	if err != nil {
		return "", err
	}
	path = filepath.Join(workdir, "rollcall")
	said, err := exec.Command("go", "build", "-race", "-o", path, "rollcall/app/cmd/rollcall").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build -race: %w\n%s", err, said)
	}
	return path, nil
})

func binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// stalls measures for how long this machine lets a process wait that wants to run, until
// the test ends.
type stalls struct{ worst atomic.Int64 }

func watchStalls(t testing.TB) *stalls {
	s := &stalls{}
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	go func() {
		const nap = 20 * time.Millisecond
		for {
			began := time.Now()
			select {
			case <-done:
				return
			case <-time.After(nap):
			}
			if late := int64(time.Since(began) - nap); late > s.worst.Load() {
				s.worst.Store(late)
			}
		}
	}()
	return s
}

// slack is what a test allows for the machine.
func (s *stalls) slack() time.Duration { return time.Second + 4*time.Duration(s.worst.Load()) }

// eventually waits until check finds nothing wrong, and fails the test with what it
// last found if that takes longer than within.
func eventually(t testing.TB, within time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", within, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
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
