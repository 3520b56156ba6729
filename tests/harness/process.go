package harness

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// root is the top folder of the project.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../..")
}

// build compiles the program once. The binary is called rollcall, as in the Procfile. It stays in the user's cache, where
// go build leaves it as it is while the sources are the same: all packages and runs share it.
var build = sync.OnceValues(func() (path string, err error) {
	if err := readSources(); err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "rollcall", fmt.Sprintf("tests-%x", sha256.Sum256([]byte(root())))[:16])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.Create(filepath.Join(dir, "lock")) // of packages that run side by side
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "rollcall")
	said, err := exec.Command("go", "build", "-race", "-o", path, "rollcall/app/cmd/rollcall").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build -race: %w\n%s", err, said)
	}
	return path, nil
})

// readSources reads the sources of the program. go test uses the cached result of a package unless a file that the test
// reads has changed, and does not see the files that go build reads.
func readSources() error {
	for _, dir := range []string{"app", "handlers", "hipache", "jobs", "migrations"} {
		err := filepath.WalkDir(filepath.Join(root(), dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !strings.HasSuffix(path, "_test.go") {
				_, err = os.ReadFile(path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// QuickExit makes a program with the race detector end at once. By default it waits a second for reports.
const QuickExit = "GORACE=atexit_sleep_ms=0"

// Binary returns the path of the program, which it builds once.
func Binary(t testing.TB) string {
	t.Helper()
	skipIfShort(t)
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Process is one run of the program. The end of the test stops it. The test fails if the log contains a data race or a
// panic, or if the process does not end with code 0.
type Process struct {
	Name    string
	Out     Transcript // standard output
	Log     Transcript // standard error
	Started time.Time

	t      testing.TB
	cmd    *exec.Cmd
	exited chan struct{} // closed after the end of the process
	killed bool
}

// Transcript is the output of a process so far.
type Transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends to the transcript.
func (s *Transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// String returns the output so far.
func (s *Transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// StartProcess starts a command line with only an environment of NAME=value and a PATH that contains rollcall.
func StartProcess(t testing.TB, env []string, name string, args ...string) *Process {
	t.Helper()
	path := filepath.Dir(Binary(t)) + string(os.PathListSeparator) + os.Getenv("PATH")
	if name == "rollcall" {
		name = Binary(t)
	}
	p := &Process{t: t, Name: strings.Join(args, " "), cmd: exec.Command(name, args...), exited: make(chan struct{}), Started: time.Now()}
	p.cmd.Env = append([]string{"PATH=" + path, "HOME=" + t.TempDir(), QuickExit}, env...)
	p.cmd.Dir = t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = &p.Out, &p.Log
	p.cmd.SysProcAttr = dieWithParent()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(p.finish)
	return p
}

// Run runs the program to its end, and returns its exit code and output.
func Run(t testing.TB, env []string, args ...string) (code int, out, log string) {
	t.Helper()
	p := StartProcess(t, env, "rollcall", args...)
	code = p.Wait()
	p.killed = true // the caller checks the code
	return code, p.Out.String(), p.Log.String()
}

// Wait returns the exit code.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(Patience):
		p.Kill()
		p.t.Fatalf("rollcall %s did not end within %s", p.Name, Patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *Process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// End ends the process with SIGTERM, as an operator does, and returns its exit code.
func (p *Process) End() int {
	p.t.Helper()
	p.killed = true
	return p.end()
}

func (p *Process) end() int {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	return p.Wait()
}

// Stop ends the process with SIGTERM. The test fails if the exit code is not 0.
func (p *Process) Stop() {
	p.t.Helper()
	if code := p.end(); code != 0 {
		p.t.Errorf("rollcall %s ended with %d after SIGTERM", p.Name, code)
	}
}

// Kill ends the process with SIGKILL, like a power failure.
func (p *Process) Kill() {
	p.killed = true
	p.Signal(syscall.SIGKILL)
	<-p.exited
}

// Signal sends the process a signal: SIGSTOP freezes it.
func (p *Process) Signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

func (p *Process) finish() {
	p.Signal(syscall.SIGCONT) // a frozen process cannot handle SIGTERM
	if p.running() {
		p.Stop()
	} else if code := p.cmd.ProcessState.ExitCode(); code != 0 && !p.killed {
		p.t.Errorf("rollcall %s ended by itself with %d", p.Name, code)
	}
	log := p.Log.String()
	for _, bad := range []string{"DATA RACE", "panic"} {
		if at := strings.Index(log, bad); at >= 0 {
			p.t.Errorf("rollcall %s says %q:\n%s", p.Name, bad, log[max(0, at-200):min(len(log), at+4000)])
		}
	}
	if p.t.Failed() {
		p.t.Logf("the last of rollcall %s, started at %s:\n%s", p.Name, p.Started.Format(time.StampMilli), LastLines(log, 30))
	}
}

// LastLines returns the last n lines of a text.
func LastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

var addrPattern = regexp.MustCompile(`addr"?[:=]"?([0-9.:\[\]]+)`)

// Addr waits until the log reports that a listener, "API" or "edge", is up. It returns the address.
func (p *Process) Addr(listener string) (addr string) {
	p.t.Helper()
	Eventually(p.t, func() error {
		if !p.running() {
			p.t.Fatalf("rollcall %s has ended:\n%s", p.Name, p.Log.String())
		}
		for line := range strings.Lines(p.Log.String()) {
			if found := addrPattern.FindStringSubmatch(line); found != nil && strings.Contains(line, listener+" is up") {
				addr = found[1]
				return nil
			}
		}
		return fmt.Errorf("rollcall %s does not say that %s is up", p.Name, listener)
	})
	return addr
}
