package containers

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// hooks are the two forms of the entrypoint hook.
var hooks = map[string][]string{
	"rollcall.sh":  {"/rollcall.sh", "--"},
	"rollcall run": {"/rollcall", "run", "--"},
}

// hooked is a container under a hook whose registry is away. It must start and end in time all the same.
type hooked struct {
	*engine
	t  *testing.T
	id string
}

func (e *engine) hooked(t *testing.T, hook []string, command ...string) *hooked {
	t.Helper()
	args := append([]string{
		"run", "--detach", "--network", "none", "--env", "ROLLCALL_URL=http://127.0.0.1:9",
		"--env", "ROLLCALL_SERVICE=witness", "--env", "ROLLCALL_PORT=80", "--entrypoint", hook[0], baseImage,
	}, hook[1:]...)
	h := &hooked{engine: e, t: t, id: e.run(t, append(args, command...)...)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(e.log(h.id))
		}
		_, _ = e.try("rm", "--force", h.id)
	})
	return h
}

func (h *hooked) says(what string) {
	h.t.Helper()
	err := within(10*time.Second, "it says "+what, func() error {
		if !strings.Contains("\n"+h.log(h.id)+"\n", "\n"+what+"\n") {
			return fmt.Errorf("it says %q", h.log(h.id))
		}
		return nil
	})
	if err != nil {
		h.t.Error(err)
	}
}

// exit waits for the container's end and returns its code.
func (h *hooked) exit() string {
	h.t.Helper()
	return h.run(h.t, "wait", h.id)
}

func TestHookPassesOnSignalsAndTheExitCode(t *testing.T) {
	t.Parallel()
	e := docker(t)
	for name, hook := range hooks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := e.hooked(t, hook, "/witness")
			h.says("up")
			for sent, got := range map[string]string{"HUP": "hangup", "USR1": "user defined signal 1"} {
				e.run(t, "kill", "--signal", sent, h.id)
				h.says("got " + got)
			}
			h.says("orphan ends")
			err := within(5*time.Second, "no process is a zombie", func() error {
				processes, err := e.try("top", h.id, "-o", "stat,pid,comm")
				if err == nil && strings.Contains(processes, "\nZ") {
					err = fmt.Errorf("there are\n%s", processes)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			began := time.Now()
			e.run(t, "stop", h.id) // TERM, and KILL after 10 s
			took := time.Since(began).Round(10 * time.Millisecond)
			h.says("got terminated")
			t.Logf("docker stop took %s with the registry away", took)
			if code := h.exit(); code != "7" || took > 8*time.Second {
				t.Errorf("docker stop took %s, and the container's exit code is %s, want its command's 7 in time", took, code)
			}
		})
	}
}

func TestHookPassesOnAnInterrupt(t *testing.T) {
	t.Parallel()
	e := docker(t)
	for name, hook := range hooks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := e.hooked(t, hook, "/witness")
			h.says("up")
			e.run(t, "kill", "--signal", "INT", h.id)
			h.says("got interrupt")
			if code := h.exit(); code != "7" {
				t.Errorf("the exit code is %s, want its command's 7", code)
			}
		})
	}
}

func TestHookEndsWithItsCommand(t *testing.T) {
	t.Parallel()
	e := docker(t)
	for name, hook := range hooks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if code := e.hooked(t, hook, "/witness", "3").exit(); code != "3" {
				t.Errorf("the exit code is %s, want its command's 3", code)
			}
		})
	}
}
