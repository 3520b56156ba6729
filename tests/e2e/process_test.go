package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/tests/redistest"
)

// process is one run of the program. It is stopped with the test, which fails when its
// log tells of a data race or a panic, or when it does not end as it should.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	out  transcript // standard output
	log  transcript // standard error

	exited  chan struct{} // closed when it has ended
	started time.Time
	killed  bool
}

// transcript is what a process has said so far.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// start runs a command line with an environment of NAME=value and nothing else but a
// PATH on which rollcall is found.
func start(t testing.TB, env []string, name string, args ...string) *process {
	t.Helper()
	path := filepath.Dir(binary(t)) + string(os.PathListSeparator) + os.Getenv("PATH")
	if name == "rollcall" {
		name = binary(t)
	}
	p := &process{t: t, name: strings.Join(args, " "), cmd: exec.Command(name, args...), exited: make(chan struct{}), started: time.Now()}
	p.cmd.Env = append([]string{"PATH=" + path, "HOME=" + t.TempDir()}, env...)
	p.cmd.Dir = t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.log
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

// rollcall runs the program to its end, and returns how it exited and what it said.
func rollcall(t testing.TB, env []string, args ...string) (code int, out, log string) {
	t.Helper()
	p := start(t, env, "rollcall", args...)
	code = p.wait()
	p.killed = true // what the code should be is the caller's business
	return code, p.out.String(), p.log.String()
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(2 * bound):
		p.kill()
		p.t.Fatalf("rollcall %s did not end within %s", p.name, 2*bound)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// end tells the process to end, as an operator does, and returns its exit code.
func (p *process) end() int {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.wait()
}

// stop ends the process, which has to end well.
func (p *process) stop() {
	p.t.Helper()
	if code := p.end(); code != 0 {
		p.t.Errorf("rollcall %s ended with %d after SIGTERM", p.name, code)
	}
}

// kill ends the process as a power cut does.
func (p *process) kill() {
	p.killed = true
	_ = p.cmd.Process.Kill()
	<-p.exited
}

func (p *process) finish() {
	if p.running() {
		p.stop()
	} else if code := p.cmd.ProcessState.ExitCode(); code != 0 && !p.killed {
		p.t.Errorf("rollcall %s ended by itself with %d", p.name, code)
	}
	log := p.log.String()
	for _, bad := range []string{"DATA RACE", "panic"} {
		if at := strings.Index(log, bad); at >= 0 {
			p.t.Errorf("rollcall %s says %q:\n%s", p.name, bad, log[max(0, at-200):min(len(log), at+4000)])
		}
	}
	if p.t.Failed() {
		p.t.Logf("the last of rollcall %s, started at %s:\n%s", p.name, p.started.Format(time.StampMilli), lastLines(log, 30))
	}
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

var addrPattern = regexp.MustCompile(`addr"?[:=]"?([0-9.:\[\]]+)`)

// addr waits until the process says that it is up, and returns where: "API" or "edge".
func (p *process) addr(what string) (addr string) {
	p.t.Helper()
	eventually(p.t, bound, func() error {
		if !p.running() {
			p.t.Fatalf("rollcall %s has ended:\n%s", p.name, p.log.String())
		}
		for line := range strings.Lines(p.log.String()) {
			if found := addrPattern.FindStringSubmatch(line); found != nil && strings.Contains(line, what+" is up") {
				addr = found[1]
				return nil
			}
		}
		return fmt.Errorf("rollcall %s does not say that %s is up", p.name, what)
	})
	return addr
}

// stack is a set of processes on one redis-server, as the Procfile lists them.
type stack struct {
	t      testing.TB
	server *redistest.Server
	rdb    *redis.Client
	env    []string
}

// newStack starts a redis-server and migrates it, with an environment for all
// processes to come.
func newStack(t testing.TB, env ...string) *stack {
	t.Helper()
	s := redistest.Start(t)
	return stackOn(t, s, env...)
}

func stackOn(t testing.TB, s *redistest.Server, env ...string) *stack {
	t.Helper()
	env = append([]string{"REDIS_URL=redis://" + s.Addr(), "PORT=0", "ROLLCALL_EDGE_PORT=0"}, env...)
	k := &stack{t: t, server: s, rdb: s.Client(t), env: env}
	if p := k.process("release"); p.wait() != 0 {
		t.Fatalf("%s: %s", p.name, p.log.String())
	}
	return k
}

// process starts one of the Procfile's processes, as a process manager does.
func (k *stack) process(name string) *process {
	k.t.Helper()
	line, ok := procfile(k.t)[name]
	if !ok {
		k.t.Fatalf("the Procfile has no %s", name)
	}
	p := start(k.t, k.env, "sh", "-c", "exec "+line)
	p.name = name
	return p
}

// web starts a web process and returns it with its API, which is ready.
func (k *stack) web() (*process, api) {
	k.t.Helper()
	p := k.process("web")
	a := api{t: k.t, base: "http://" + p.addr("API")}
	a.ready()
	return p, a
}

// edge starts an edge process and returns its address.
func (k *stack) edge() string {
	k.t.Helper()
	return k.process("edge").addr("edge")
}

// procfile reads the commands of the Procfile by name.
func procfile(t testing.TB) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../Procfile")
	if err != nil {
		t.Fatal(err)
	}
	commands := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, command, ok := strings.Cut(line, ":")
		if ok && !strings.HasPrefix(name, "#") {
			commands[strings.TrimSpace(name)] = strings.TrimSpace(command)
		}
	}
	return commands
}
