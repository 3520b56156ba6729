package e2e

import (
	"testing"

	"rollcall/tests/harness"
)

// stack is the processes of a test, on one redis-server.
type stack struct {
	*harness.Stack
	t testing.TB
}

// newStack starts and migrates a redis-server, and sets the environment of all later processes.
func newStack(t testing.TB, env ...string) *stack {
	t.Helper()
	return stackOn(t, harness.StartRedis(t), env...)
}

func stackOn(t testing.TB, s *harness.Server, env ...string) *stack {
	t.Helper()
	return &stack{harness.NewStack(t, s, env...), t}
}

// web starts a web process and returns it with its API, once it is ready.
func (k *stack) web() (*harness.Process, api) {
	k.t.Helper()
	p := k.Process("web")
	a := api{t: k.t, base: "http://" + p.Addr("API")}
	a.ready()
	return p, a
}

// edge starts an edge process and returns its address.
func (k *stack) edge() string {
	k.t.Helper()
	return k.Process("edge").Addr("edge")
}

// start starts a command that the Procfile does not name.
func (k *stack) start(command string) *harness.Process {
	k.t.Helper()
	p := harness.StartProcess(k.t, k.Env, "rollcall", command)
	p.Name = command
	return p
}
