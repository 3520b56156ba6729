package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Stack is a set of processes of the Procfile on one redis-server.
type Stack struct {
	Server *Server
	Redis  *redis.Client
	Env    []string // of the processes

	t testing.TB
}

// NewStack migrates a redis-server. env is the environment of the processes.
func NewStack(t testing.TB, s *Server, env ...string) *Stack {
	t.Helper()
	env = append([]string{"REDIS_URL=redis://" + s.Addr(), "PORT=0", "ROLLCALL_EDGE_PORT=0"}, env...)
	k := &Stack{t: t, Server: s, Redis: s.Client(t), Env: env}
	if p := StartProcess(t, env, "rollcall", "migrate"); p.Wait() != 0 {
		t.Fatalf("%s: %s", p.Name, p.Log.String())
	}
	return k
}

// Process starts a process of the Procfile, as a process manager does. The command before precedes the command line and
// must replace itself by it, as nice does.
func (k *Stack) Process(name string, before ...string) *Process {
	k.t.Helper()
	line, ok := Procfile(k.t)[name]
	if !ok {
		k.t.Fatalf("the Procfile has no %s", name)
	}
	command := append(before, "sh", "-c", "exec "+line)
	p := StartProcess(k.t, k.Env, command[0], command[1:]...)
	p.Name = name
	return p
}

// ProcfilePath returns the path of the Procfile.
func ProcfilePath() string { return filepath.Join(root(), "Procfile") }

// Procfile returns the commands of the Procfile by name.
func Procfile(t testing.TB) map[string]string {
	t.Helper()
	text, err := os.ReadFile(ProcfilePath())
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
