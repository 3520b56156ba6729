//go:build linux

package docker_test

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"rollcall/tests/harness"
)

func TestEndsWithTheExitCodeOfTheCommand(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		p := h.start(t, shared(t), nil, appServes)
		p.awaitState("healthy")
		p.ask("/exit?code=7")
		p.ends(7)
		p.awaitState("gone")
		p.says("rollcall: %s is gone: the command ended with 7", p.id)
	})
}

func TestEndsWith128AndTheSignalThatKilledTheCommand(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		told := h.start(t, shared(t), env{"ROLLCALL_HOLD": "0s", "ROLLCALL_HEALTH": "none"}, "/bin/sleep", "60")
		told.awaitState("healthy")
		told.signal("TERM")
		told.ends(128 + 15)

		killed := h.start(t, shared(t), nil, appServes)
		killed.awaitState("healthy")
		pid, _ := strconv.Atoi(killed.line("pid "))
		_ = syscall.Kill(pid, syscall.SIGKILL)
		killed.ends(128 + 9)
		killed.awaitState("gone")
	})
}

func TestEndsWithTheShellsCodeForAMissingCommand(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		h.start(t, shared(t), nil, "/no/such/command").ends(127)
		h.start(t, shared(t), nil, "/etc/passwd").ends(126)
	})
}

func TestACommandRunsWithoutARegistry(t *testing.T) {
	t.Parallel()
	everyHook(t, func(t *testing.T, h hook) {
		for name, url := range map[string]string{"refused": "http://127.0.0.1:" + strconv.Itoa(harness.FreePort(t)), "hanging": hangingURL(t)} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := h.start(t, &registry{url: url}, env{"ROLLCALL_HOLD": "100ms"}, appServes)
				p.says("up")
				if name == "refused" {
					p.eventually("it says so", func() bool { return p.said("rollcall: no registration at " + url) })
				}
				p.signal("TERM")
				p.says("got terminated")
				p.ends(0)
				if n := strings.Count(p.output(), "no registration"); n > 1 {
					t.Errorf("it says %d times that the registry is away", n)
				}
			})
		}
	})
}

// hangingURL returns the URL of a server that accepts connections and never answers.
func hangingURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return "http://" + l.Addr().String()
}

func TestWithoutAURLTheCommandReplacesTheHook(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		for missing, e := range map[string]env{"ROLLCALL_URL": {"ROLLCALL_URL": ""}, "ROLLCALL_SERVICE": {"ROLLCALL_SERVICE": ""}} {
			p := h.start(t, shared(t), e, appServes)
			p.says("up")
			if p.line("pid ") != strconv.Itoa(p.cmd.Process.Pid) {
				t.Errorf("the command is process %s, want it to be the hook's, %d", p.line("pid "), p.cmd.Process.Pid)
			}
			if n := strings.Count(p.output(), "rollcall: "+missing+" is not set: running without Rollcall\n"); n != 1 {
				t.Errorf("it says %d times that %s is not set, want once:\n%s", n, missing, p.output())
			}
			p.signal("TERM")
			p.ends(0)
		}
	})
}

// The first process of a container inherits all orphans.
func TestAsFirstProcessItLeavesNoZombies(t *testing.T) {
	t.Parallel()
	namespace := []string{"unshare", "--pid", "--fork", "--mount-proc", "--kill-child"}
	if out, err := exec.Command(namespace[0], append(namespace[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("no PID namespace here: %v %s", err, out)
	}
	everyShell(t, func(t *testing.T, h hook) {
		h.within = namespace
		p := h.start(t, shared(t), env{
			"ROLLCALL_HEALTH_CMD": "(/bin/sleep 0.2 &) ; exit 0", "ROLLCALL_INTERVAL": "200ms",
		}, appServes)
		p.awaitState("healthy")
		if n := p.ask("/orphans"); n == "0" {
			t.Error("the hook has inherited nothing: there is nothing to see here")
		}
		p.eventually("every orphan has been buried", func() bool { return p.ask("/orphans/left") == "0" })
		first := childOf(t, p.cmd.Process.Pid)
		_ = syscall.Kill(first, syscall.SIGTERM)
		p.says("got terminated")
		p.ends(0)
		p.says("rollcall: drained %s", p.id)
	})
}

func childOf(t *testing.T, parent int) int {
	t.Helper()
	for pid, its := range processes() {
		if its == parent {
			return pid
		}
	}
	t.Fatalf("process %d has no child", parent)
	return 0
}

// The script must not depend on the standard input of the test binary.
func TestTheCommandHasTheInputOfTheHook(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		in, err := os.CreateTemp(t.TempDir(), "in")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = in.WriteString("from outside\n")
		_, _ = in.Seek(0, 0)
		h.stdin = in
		p := h.start(t, shared(t), nil, "/bin/sh", "-c", "read -r line; echo read $line")
		p.ends(0)
		p.says("read from outside")
	})
}
