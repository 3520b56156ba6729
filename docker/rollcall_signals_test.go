//go:build linux

package docker_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rollcall/tests/harness"
)

func TestAStopSignalOfTheImageDrainsFirst(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		for name, got := range map[string]string{"WINCH": "window changed", "USR1": "user defined signal 1", "RTMIN+3": "signal 37"} {
			p := h.start(t, shared(t), env{"ROLLCALL_HOLD": "300ms", "ROLLCALL_STOP_SIGNAL": "sigwinch, 10,RTMIN+3,NOSUCH,KILL"}, appServes)
			p.awaitState("healthy")
			for _, bad := range []string{"NOSUCH", "KILL"} {
				p.says("rollcall: ROLLCALL_STOP_SIGNAL: %s is not a signal that can be caught; ignored", bad)
			}
			p.up()
			sent := unix.SignalNum("SIG" + name)
			if name == "RTMIN+3" {
				sent = 37
			}
			_ = p.cmd.Process.Signal(sent)
			p.says("rollcall: %s: draining %s", map[bool]string{true: name, false: "37"}[sent != 37 || h.name == "run"], p.id)
			p.says("rollcall: drained %s", p.id)
			p.says("got %s", got)
			if p.awaitState("gone"); p.said("got " + got + "\nrollcall: drained") {
				t.Error("the command got the signal before the drain was over")
			}
			p.signal("TERM") // the second signal
			p.ends(0)
		}
	})
}

func TestASignalToTheProcessGroupDrainsFirst(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		h.grouped = true
		p := h.start(t, shared(t), env{"ROLLCALL_HOLD": "500ms"}, appServes)
		p.awaitState("healthy")
		p.up()
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
		p.says("got terminated")
		if s := p.line("state "); s != "draining" && s != "gone" {
			t.Errorf("the command was %s when it got the signal", s)
		}
		p.ends(0)
		p.says("rollcall: drained %s", p.id)
	})
}

func TestEndsWithTheCodeOfACommandThatHandlesASignal(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		for _, code := range []int{0, 1, 127, 129, 143} {
			p := h.start(t, shared(t), env{"ROLLCALL_HOLD": "0s", "ROLLCALL_HEALTH": "none"}, "/bin/sh", "-c",
				"trap 'exit "+strconv.Itoa(code)+"' HUP TERM; echo up; while :; do sleep 0.1; done")
			p.awaitState("healthy")
			p.says("up")
			p.signal(map[bool]string{true: "HUP", false: "TERM"}[code%2 == 1])
			p.ends(code)
		}
	})
}

func TestACommandWhosePathHasAnEqualsSignRuns(t *testing.T) {
	t.Parallel()
	everyHook(t, func(t *testing.T, h hook) {
		dir := filepath.Join(t.TempDir(), "a=b")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "c=d"), []byte("#!/bin/sh\nexit 9\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		h.start(t, shared(t), nil, filepath.Join(dir, "c=d")).ends(9)
	})
}

// openPTY opens a pseudo-terminal: the side of the keyboard, and the side of the program.
func openPTY(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	modes, err := unix.IoctlGetTermios(int(person.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	modes.Lflag &^= unix.ECHO // the test reads only the output of programs
	modes.Oflag &^= unix.OPOST
	if err := unix.IoctlSetTermios(int(person.Fd()), unix.TCSETS, modes); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

// onTerminal starts a hook on a terminal. A write to person is input from the keyboard.
func onTerminal(t *testing.T, h hook, e env, command ...string) (p *running, person io.Writer) {
	t.Helper()
	keys, screen := openPTY(t)
	h.terminal = screen
	p = h.start(t, shared(t), e, command...)
	_ = screen.Close()
	go func() { _, _ = io.Copy(p, keys) }()
	return p, keys
}

// everyTerminal runs a test on a terminal with each shell, as the first process and as another.
func everyTerminal(t *testing.T, test func(t *testing.T, h hook, first bool)) {
	t.Helper()
	setsid, err := exec.LookPath("setsid")
	if err != nil {
		t.Skip(err)
	}
	namespace := []string{"unshare", "--pid", "--fork", "--mount-proc", "--kill-child", setsid, "-c"}
	everyShell(t, func(t *testing.T, h hook) {
		t.Run("not first", func(t *testing.T) { test(t, h, false) })
		t.Run("first", func(t *testing.T) {
			if out, err := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "true").CombinedOutput(); err != nil {
				t.Skipf("no PID namespace here: %v %s", err, out)
			}
			h.within = namespace
			test(t, h, true)
		})
	})
}

func (p *running) terminate(first bool) {
	pid := p.cmd.Process.Pid
	if first {
		pid = childOf(p.t, pid)
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
}

func TestCtrlCOnATerminalDrainsFirst(t *testing.T) {
	t.Parallel()
	everyTerminal(t, func(t *testing.T, h hook, _ bool) {
		p, keys := onTerminal(t, h, env{"ROLLCALL_HOLD": "500ms"}, appServes)
		p.awaitState("healthy")
		p.up()
		_, _ = keys.Write([]byte{'Z' - '@'}) // has no effect
		_, _ = keys.Write([]byte{'C' - '@'})
		p.says("rollcall: INT: draining %s", p.id)
		p.says("got interrupt")
		if s := p.line("state "); s != "draining" && s != "gone" {
			t.Errorf("the command was %s when it got the signal", s)
		}
		p.ends(0)
		p.says("rollcall: drained %s", p.id)
	})
}

func TestACommandReadsTheTerminal(t *testing.T) {
	t.Parallel()
	everyTerminal(t, func(t *testing.T, h hook, first bool) {
		e := env{"ROLLCALL_HOLD": "500ms", "ROLLCALL_HEALTH": "none"}
		p, keys := onTerminal(t, h, e, "/bin/cat")
		p.awaitState("healthy")
		_, _ = io.WriteString(keys, "one\n")
		p.says("one")
		_, _ = keys.Write([]byte{'Z' - '@'}) // has no effect
		_, _ = io.WriteString(keys, "two\n")
		p.eventually("it reads on after Ctrl-Z", func() bool { return p.said("two\n") })
		_, _ = keys.Write([]byte{'D' - '@'})
		p.ends(0)

		p, keys = onTerminal(t, h, e, "/bin/cat")
		p.awaitState("healthy")
		_, _ = io.WriteString(keys, "one\n")
		p.says("one")
		p.terminate(first)
		p.says("rollcall: TERM: draining %s", p.id)
		p.ends(128 + 15)
		p.says("rollcall: drained %s", p.id)
	})
}

func TestAnInteractiveShellHasJobControl(t *testing.T) {
	t.Parallel()
	everyTerminal(t, func(t *testing.T, h hook, _ bool) {
		p, keys := onTerminal(t, h, env{"ROLLCALL_HOLD": "500ms", "ROLLCALL_HEALTH": "none"}, "/bin/sh", "-i")
		p.awaitState("healthy")
		_, _ = io.WriteString(keys, "echo $((40+2)); /bin/sleep 1000\n")
		p.eventually("it answers", func() bool { return p.said("42\n") })
		p.eventually("it sleeps", func() bool {
			for _, pid := range p.family() {
				if line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline"); string(line) == "/bin/sleep\x001000\x00" {
					return true
				}
			}
			return false
		})
		_, _ = keys.Write([]byte{'C' - '@'}) // ends sleep, and not the shell
		_, _ = io.WriteString(keys, "echo $((50+2)); exit 7\n")
		p.eventually("it answers after Ctrl-C", func() bool { return p.said("52\n") })
		p.ends(7)
		if p.said("draining") {
			t.Error("Ctrl-C in the shell drained the container")
		}
	})
}

// The replica that drains the instance dies. Another one starts at its address, or none.
func TestTheDrainSurvivesTheDeathOfAReplica(t *testing.T) {
	t.Parallel()
	redis := harness.StartRedis(t)
	port := harness.FreePort(t)
	url := "REDIS_URL=redis://" + redis.Addr()
	r, err := launch(port, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.stop() })
	const hold = 6 * time.Second
	all := startEvery(t, r, env{"ROLLCALL_HOLD": hold.String()}, appServes)
	for _, p := range all {
		p.awaitState("healthy")
	}
	for i, p := range all {
		p.up()
		began := time.Now()
		p.signal("TERM")
		p.awaitState("draining")
		r.stop()
		if i%2 == 0 { // otherwise none starts
			if r, err = launch(port, url); err != nil {
				t.Fatal(err)
			}
		}
		p.says("got terminated")
		if took := time.Since(began); took < hold {
			t.Errorf("%s: the command got the signal after %s, want the hold of %s to be over", p.service, took, hold)
		}
		p.ends(0)
		if i%2 == 0 {
			p.says("rollcall: drained %s", p.id)
			continue
		}
		p.eventually("it says why", func() bool { return p.said("rollcall: could not drain " + p.id + ": ") })
		if r, err = launch(port, url); err != nil {
			t.Fatal(err)
		}
	}
}
