//go:build linux

package docker_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rollcall/tests/harness"
)

// hook is one form of the entrypoint hook, with the tools that it may use.
type hook struct {
	name   string
	argv   []string
	tools  []string // content of PATH: name, or name=program
	stdin  io.Reader
	within []string // command that starts it

	terminal *os.File // replaces its files, and is its controlling terminal
	grouped  bool     // leader of a process group

	ignoresInterrupts bool // its parent ignores INT and QUIT
}

var (
	gnu     = []string{"env", "od", "sed", "sleep", "tr", "true", "uname", "sh=dash"}
	busybox = func(tools ...string) []string {
		for _, tool := range []string{"env", "nc", "od", "sed", "setsid", "sh", "sleep", "timeout", "tr", "true", "uname"} {
			tools = append(tools, tool+"=busybox")
		}
		return tools
	}
)

// hooks are the forms of the hook. "{script}" is rollcall.sh, "{program}" is rollcall.
var hooks = []hook{
	{name: "run", argv: []string{"{program}", "run"}, tools: []string{"sh=dash"}},
	{name: "dash-curl", argv: []string{"dash", "{script}"}, tools: append([]string{"curl", "timeout"}, gnu...)},
	{name: "dash-wget", argv: []string{"dash", "{script}"}, tools: append([]string{"wget", "rm", "setsid"}, gnu...)},
	{name: "bash-curl", argv: []string{"bash", "--posix", "{script}"}, tools: append([]string{"curl"}, gnu...)},
	{name: "bash-wget", argv: []string{"bash", "{script}"}, tools: append([]string{"wget", "rm", "setsid", "timeout"}, gnu...)},
	{name: "ash-curl", argv: []string{"busybox", "sh", "{script}"}, tools: busybox("curl"), ignoresInterrupts: true},
	{name: "ash-wget", argv: []string{"busybox", "sh", "{script}"}, tools: busybox("wget=busybox"), ignoresInterrupts: true},
}

// oneOfEachShell is the program and, for each shell, one hook that this machine can run.
func oneOfEachShell() (some []hook) {
	seen := map[string]bool{}
	for _, h := range slices.Backward(hooks) {
		if h.missing() == nil && !seen[h.argv[0]] {
			seen[h.argv[0]] = true
			some = append(some, h)
		}
	}
	return some
}

// missing returns a tool of the hook that this machine does not have.
func (h hook) missing() error {
	for _, tool := range append([]string{h.argv[0]}, h.tools...) {
		if _, program, ok := strings.Cut(tool, "="); ok {
			tool = program
		}
		if strings.HasPrefix(tool, "{") {
			continue
		}
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	return nil
}

// limits reports whether the hook can end a hanging health command.
func (h hook) limits() bool {
	return h.name == "run" || slices.ContainsFunc(h.tools, func(tool string) bool { return strings.HasPrefix(tool, "timeout") })
}

// path makes a directory with only the tools of the hook.
func (h hook) path(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range h.tools {
		name, target, ok := strings.Cut(tool, "=")
		if !ok {
			target = name
		}
		target, err := exec.LookPath(target)
		if err == nil {
			err = os.Symlink(target, filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// env holds variables of a hook. "{svc}" in a value is the service of the test.
type env map[string]string

// running is a started hook.
type running struct {
	t        *testing.T
	registry *registry
	cmd      *exec.Cmd
	service  string
	id       string
	port     int
	mark     string // in the environment of the hook and its descendants
	serves   bool   // the command is the application of these tests
	exited   chan struct{}
	code     int

	mu  sync.Mutex
	out bytes.Buffer
}

var services atomic.Int64

// start starts a hook with a command. appServes is the application of these tests, which
// passes its health check.
func (h hook) start(t *testing.T, r *registry, e env, command ...string) *running {
	t.Helper()
	rollcall, err := program()
	if err != nil {
		t.Fatal(err)
	}
	p := &running{
		t: t, registry: r, port: harness.FreePort(t), exited: make(chan struct{}),
		service: fmt.Sprintf("%s-%d", h.name, services.Add(1)),
	}
	p.mark = fmt.Sprintf("ROLLCALL_TEST_RUN=%d-%s", os.Getpid(), p.service)
	host, _ := os.Hostname()
	p.id = strings.ToLower(fmt.Sprintf("%s-%s-%d", p.service, host, p.port))
	vars := env{
		"PATH": h.path(t), "ROLLCALL_URL": r.url, "ROLLCALL_SERVICE": p.service, "PORT": strconv.Itoa(p.port), "APP_PORT": strconv.Itoa(p.port),
		"ROLLCALL_HEALTH": "/healthz", "ROLLCALL_TIMEOUT": "10s", "ROLLCALL_RISE": "1", "ROLLCALL_HOLD": "200ms", "ROLLCALL_REASSERT": "3s", "HOME": "/nonexistent",
	}
	maps.Copy(vars, e)
	if id := vars["ROLLCALL_ID"]; id != "" {
		p.id = strings.ReplaceAll(id, "{svc}", p.service)
	}
	script, _ := filepath.Abs("rollcall.sh")
	places := strings.NewReplacer("{script}", script, "{program}", rollcall)
	argv := []string{}
	for _, a := range append(slices.Clone(h.argv), "--") {
		argv = append(argv, places.Replace(a))
	}
	if command[0] == appServes {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		command[0], vars["ROLLCALL_TEST_APP"], p.serves = self, "serve", true
	}
	if path, err := exec.LookPath(argv[0]); err == nil { // a program in within may search the PATH of the hook
		argv[0] = path
	}
	argv = append(append(slices.Clone(h.within), argv...), command...)
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = []string{p.mark}
	for name, value := range vars {
		p.cmd.Env = append(p.cmd.Env, name+"="+strings.ReplaceAll(value, "{svc}", p.service))
	}
	p.cmd.Dir = t.TempDir()
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = h.stdin, p, p
	p.cmd.WaitDelay = 5 * time.Second // an orphan may keep the output open
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: h.grouped}
	if h.terminal != nil {
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = h.terminal, h.terminal, h.terminal
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true, Setctty: true}
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait()
		if s := p.cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signaled() {
			p.code = -int(s.Signal())
		} else {
			p.code = s.ExitStatus()
		}
	}()
	t.Cleanup(p.cleanUp)
	return p
}

// cleanUp kills the remaining processes. They are an error if the hook has ended.
func (p *running) cleanUp() {
	select {
	case <-p.exited:
		p.eventually("nothing is left of what it started", func() bool { return len(p.family()) == 0 })
		if files, err := os.ReadDir(p.cmd.Dir); err != nil || len(files) > 0 {
			p.t.Errorf("it has written files: %v, %v", files, err)
		}
	default:
	}
	for len(p.family()) > 0 {
		for _, pid := range p.family() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(50 * time.Millisecond)
	}
	<-p.exited
	if p.t.Failed() {
		p.t.Logf("output:\n%s", p.output())
	}
}

// family returns the hook and its descendants, by the mark in their environment.
func (p *running) family() []int {
	var pids []int
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range all {
		environ, err := os.ReadFile(path) // a zombie has no environment
		if err == nil && strings.Contains("\x00"+string(environ), "\x00"+p.mark+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// Write receives the output of the hook and the command.
func (p *running) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *running) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (p *running) said(what string) bool { return strings.Contains(p.output(), what) }

// says waits for a line of the output.
func (p *running) says(format string, args ...any) {
	p.t.Helper()
	line := "\n" + fmt.Sprintf(format, args...) + "\n"
	p.eventually("it says "+strings.TrimSpace(line), func() bool { return strings.Contains("\n"+p.output(), line) })
}

// line waits for a line with a prefix, and returns the rest of the line.
func (p *running) line(prefix string) (rest string) {
	p.t.Helper()
	p.eventually("it says "+prefix, func() bool {
		_, after, found := strings.Cut("\n"+p.output(), "\n"+prefix)
		line, _, ended := strings.Cut(after, "\n")
		rest = line
		return found && ended
	})
	return rest
}

func (p *running) eventually(what string, is func() bool) {
	p.t.Helper()
	harness.Await(p.t, what, is)
}

func (p *running) awaitState(state string) (i instance) {
	p.t.Helper()
	p.eventually("the state is "+state, func() bool {
		i = p.registry.get(p.id)
		return i.State == state
	})
	return i
}

// up waits for the application: it is registered before it serves and handles signals.
func (p *running) up() {
	p.t.Helper()
	if p.serves {
		p.says("up")
	}
}

// signal sends a signal to the hook.
func (p *running) signal(name string) {
	p.t.Helper()
	p.up()
	_ = p.cmd.Process.Signal(unix.SignalNum("SIG" + name))
}

// ends waits for the end of the hook.
func (p *running) ends(code int) {
	p.t.Helper()
	select {
	case <-p.exited:
		if p.code != code {
			p.t.Errorf("it ended with %d, want %d", p.code, code)
		}
	case <-time.After(patience):
		p.t.Fatalf("it has not ended after %s", patience)
	}
}

// ask sends the application a request.
func (p *running) ask(path string) string {
	p.t.Helper()
	p.up()
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", p.port, path))
	if err != nil {
		if strings.HasPrefix(path, "/exit") {
			return ""
		}
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}
