//go:build linux

// Package docker_test tests the entrypoint hook in both its forms, rollcall.sh and
// `rollcall run`, against a real Rollcall. It tests every claim with the program and with the
// script under each shell, with each tool that can call Rollcall.
package docker_test

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is also the application that the hooks run.
func TestMain(m *testing.M) {
	if mode := os.Getenv("ROLLCALL_TEST_APP"); mode != "" {
		os.Exit(application(mode))
	}
	flag.Parse()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // shells cannot trap it if nohup has ignored it
	// The tests wait for processes, not for the CPU.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("12")
	}
	code := m.Run()
	tearDown()
	os.Exit(code)
}

// everyHook runs a test for each hook that this machine can run.
func everyHook(t *testing.T, test func(t *testing.T, h hook)) {
	t.Helper()
	every(t, hooks, test)
}

// everyShell runs a test for oneOfEachShell: the other tools make no difference.
func everyShell(t *testing.T, test func(t *testing.T, h hook)) {
	t.Helper()
	every(t, oneOfEachShell(), test)
}

func every(t *testing.T, hooks []hook, test func(t *testing.T, h hook)) {
	t.Helper()
	for _, h := range hooks {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			if err := h.missing(); err != nil {
				t.Skip(err)
			}
			test(t, h)
		})
	}
}

func TestRegistersEveryFieldOfTheEnvironment(t *testing.T) {
	t.Parallel()
	everyHook(t, func(t *testing.T, h hook) {
		r := shared(t)
		p := h.start(t, r, env{
			"ROLLCALL_HOST": "A.{svc}.test, *.{svc}.test c.{svc}.test", "ROLLCALL_TAG": "blue, two words", "ROLLCALL_META": "owner=ops, note=a=b&c",
			"ROLLCALL_HEALTH": "/healthz?full=1", "ROLLCALL_EXPECT": "200-299\n" + oddBody, "ROLLCALL_HEALTH_HOST": "health.test", "ROLLCALL_HEALTH_METHOD": "get", "ROLLCALL_HEALTH_HEADER": "X-Token: a \"b\", c\nAccept: text/plain", "ROLLCALL_INTERVAL": "1500ms", "ROLLCALL_TIMEOUT": "1.2s",
			"ROLLCALL_RISE": "1", "ROLLCALL_FALL": "3", "ROLLCALL_GRACE": "1m30s", "ROLLCALL_FORGET": "5m", "ROLLCALL_WEIGHT": "2", "ROLLCALL_FAIL_OPEN": "false",
		}, appServes)
		i := p.awaitState("healthy")
		hosts := strings.ReplaceAll("*.{svc}.test a.{svc}.test c.{svc}.test", "{svc}", p.service)
		for what, is := range map[string][2]string{
			"hosts": {strings.Join(i.Hosts, " "), hosts}, "tags": {strings.Join(i.Tags, "|"), "blue|two words"}, "meta": {fmt.Sprint(i.Meta), "map[note:a=b&c owner:ops]"},
			"expect": {i.Check.Expect, "200-299"}, "expected body": {i.Check.Body, oddBody}, "health host": {i.Check.Host, "health.test"}, "health headers": {strings.Join(i.Check.Headers, " "), "Accept X-Token"}, "interval": {i.Check.Interval, "1.5s"}, "timeout": {i.Check.Timeout, "1.2s"},
			"rest": {fmt.Sprintf("%d %d %s %s %d %t", i.Check.Rise, i.Check.Fall, i.Check.Grace, i.Check.Forget, i.Weight, i.FailOpen), "1 3 1m30s 5m0s 2 false"},
		} {
			if is[0] != is[1] {
				t.Errorf("%s: got %q, want %q", what, is[0], is[1])
			}
		}
		if host, _ := os.Hostname(); p.id != strings.ToLower(fmt.Sprintf("%s-%s-%d", p.service, host, p.port)) {
			t.Errorf("the id is %q, want service-hostname-port", p.id)
		}
		p.says("rollcall: registered %s at 127.0.0.1:%d", p.id, p.port)
	})
}

func TestDrainsBeforeTheCommandGetsTheSignal(t *testing.T) {
	t.Parallel()
	everyHook(t, func(t *testing.T, h hook) {
		p := h.start(t, shared(t), env{"ROLLCALL_HOLD": "1s"}, appServes)
		p.awaitState("healthy")
		began := time.Now()
		p.signal("TERM")
		p.awaitState("draining")
		p.says("got terminated")
		if took := time.Since(began); took < time.Second {
			t.Errorf("the command was told after %s, want the hold of 1s to be over", took)
		}
		if s := p.line("state "); s != "draining" && s != "gone" {
			t.Errorf("the command was %s when it was told, want draining or gone", s)
		}
		p.ends(0)
		if out := p.output(); strings.Index(out, "rollcall: drained "+p.id) > strings.Index(out, "got terminated") {
			t.Error("the command was told before Rollcall had answered")
		}
		p.says("rollcall: drained %s", p.id)
		if p.said("the command ended") {
			t.Errorf("it was deregistered again after the drain:\n%s", p.output())
		}
	})
}

func TestForwardsOtherSignalsAtOnce(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		p := h.start(t, shared(t), nil, appServes)
		p.awaitState("healthy")
		p.up()
		for _, s := range forwarded() {
			if s == syscall.SIGTERM || s == syscall.SIGINT || s == syscall.SIGQUIT {
				continue
			}
			_ = p.cmd.Process.Signal(s)
			p.says("got %s", s)
		}
		if i := p.awaitState("healthy"); i.State != "healthy" {
			t.Errorf("it is %s after those", i.State)
		}
		p.signal("INT")
		p.says("got interrupt")
		p.ends(0)
	})
}

// A shell that starts with INT ignored can never trap it.
func TestForwardsSignalsToAShellScript(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		p := h.start(t, shared(t), env{"ROLLCALL_HOLD": "0s", "ROLLCALL_HEALTH": "none"}, "/bin/sh", "-c", `
			trap 'echo got HUP' HUP
			trap 'echo got USR1' USR1
			trap 'echo got PROF' PROF
			trap 'echo got INT; exit 5' INT
			trap 'echo got TERM; exit 5' TERM
			echo up
			while :; do sleep 0.1; done`)
		p.says("up")
		p.awaitState("healthy")
		p.signal("HUP")
		p.says("got HUP")
		p.signal("USR1")
		p.says("got USR1")
		if h.name != "run" { // a Go program cannot catch it
			p.signal("PROF")
			p.says("got PROF")
		}
		p.signal("INT")
		p.ends(5)
		want := "got INT"
		if h.ignoresInterrupts {
			want = "got TERM"
		}
		p.says("%s", want)
	})
}

func TestASecondSignalDoesNotWaitForTheDrain(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		p := h.start(t, shared(t), env{"ROLLCALL_HOLD": "5m"}, appServes) // longer than a test waits
		p.awaitState("healthy")
		p.signal("TERM")
		p.awaitState("draining")
		p.signal("TERM")
		p.says("got terminated")
		p.ends(0)
	})
}
