// Package harness starts the parts of a test: a private redis-server, the program built with the race detector, backends
// whose failures the test controls, a browser. Tests run in parallel, each on a server or a key prefix of its own, and wait
// for conditions with Eventually. Without a program that a test needs, the test is skipped; with CI set it fails.
package harness

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Patience is how long a test waits for a condition. It decides no result: the condition normally holds within a second.
const Patience = 2 * time.Minute

// parallel is the number of tests of one package that run at a time, unless go test -parallel says otherwise. Tests mostly
// wait: with one test per core, they would wait for each other.
const parallel = 8

// Main wraps m so that tests run in parallel, and so that all that they share ends after them. Use it as
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m).Run()) }
//
// or pass it to goleak.VerifyTestMain. A package whose tests load the machine passes a lower number of tests at a time.
func Main(m *testing.M, atATime ...int) interface{ Run() int } {
	return runner{m, append(atATime, parallel)[0]}
}

type runner struct {
	m        *testing.M
	parallel int
}

// Run runs the tests and returns the exit code.
func (r runner) Run() int {
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", strconv.Itoa(r.parallel))
	}
	code := r.m.Run()
	if err := runAtEnd(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

var atEnd struct {
	sync.Mutex
	calls []func() error
}

// AtEnd calls end after the tests of a package that uses Main. Its error fails the package.
func AtEnd(end func() error) {
	atEnd.Lock()
	defer atEnd.Unlock()
	atEnd.calls = append(atEnd.calls, end)
}

func runAtEnd() (err error) {
	atEnd.Lock()
	defer atEnd.Unlock()
	for _, end := range atEnd.calls {
		err = errors.Join(err, end())
	}
	return err
}

// Need returns the path of the first of some programs that is on PATH. Without one the test is skipped; with CI set it fails.
// With -short, tests that start a process are skipped.
func Need(t testing.TB, programs ...string) (path string) {
	t.Helper()
	skipIfShort(t)
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not on PATH, and CI is set", programs[0])
	}
	t.Skipf("%s is not on PATH", programs[0])
	return ""
}

func skipIfShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts a process, and -short is set")
	}
}

// Chromium are the names of the browser, for Need.
var Chromium = []string{"chromium", "chromium-browser", "google-chrome"}

// Eventually repeats check until it returns nil. After Patience, it fails the test with the last error.
func Eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", Patience, err)
		}
		time.Sleep(pause)
	}
}

// Await repeats a check until it returns true or nil. After Patience, it fails the test with the name of the condition.
func Await[C func() bool | func() error](t testing.TB, condition string, check C) {
	t.Helper()
	Eventually(t, func() error {
		var err error
		switch check := any(check).(type) {
		case func() bool:
			if !check() {
				err = errors.New("it is not so")
			}
		case func() error:
			err = check()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", condition, err)
		}
		return nil
	})
}

// Stalls measures how long this machine delays a runnable process, until the test ends.
type Stalls struct{ worst atomic.Int64 }

// WatchStalls starts the measurement.
func WatchStalls(t testing.TB) *Stalls {
	s := &Stalls{}
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

// Slack returns the tolerance of a test for delays of the machine.
func (s *Stalls) Slack() time.Duration { return time.Second + 4*time.Duration(s.worst.Load()) }
