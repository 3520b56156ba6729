package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rollcall/tests/harness"
)

// generators are the Go generators of clients, by the name of the program in testdata that uses their client. The version of
// oapi-codegen is the one of app/client.
var generators = map[string][]string{
	"oapi-codegen": {"github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2", "-generate", "models,client", "-package", "api", "-o", "api/api.go"},
	"ogen":         {"github.com/ogen-go/ogen/cmd/ogen@v1.25.0", "-target", "api", "-package", "api", "-clean"},
}

// TestGeneratedClientsRegisterAndRead generates a client from openapi.yaml with each generator, builds a program with it, and runs
// the program on a Rollcall. It compiles the generators and their libraries, so only make generators runs it.
func TestGeneratedClientsRegisterAndRead(t *testing.T) { //nolint:paralleltest // it takes both cores
	if os.Getenv("ROLLCALL_GENERATORS") == "" {
		t.Skip("make generators runs it")
	}
	description, err := filepath.Abs("../../handlers/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, generator := range generators { //nolint:paralleltest // they take both cores
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			program, err := os.ReadFile("testdata/" + name + ".go.txt")
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "main.go"), string(program))
			write(t, filepath.Join(dir, "go.mod"), "module example\n\ngo 1.26\n")
			if err := os.Mkdir(filepath.Join(dir, "api"), 0o700); err != nil {
				t.Fatal(err)
			}
			if out, err := goTool(t, dir, "list", "-m", strings.Split(generator[0], "/cmd/")[0]+"@"+strings.Split(generator[0], "@")[1]); err != nil {
				t.Skipf("the module proxy is not in reach: %s", out)
			}
			for _, args := range [][]string{append(append([]string{"run"}, generator...), description), {"mod", "tidy"}, {"build", "-o", "program", "."}} {
				if out, err := goTool(t, dir, args...); err != nil {
					t.Fatalf("go %s: %v\n%s", args, err, out)
				}
			}
			runGenerated(t, filepath.Join(dir, "program"))
		})
	}
}

// goTool runs the go command in the folder of another module.
func goTool(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	return harness.LastLines(string(out), 20), err
}

// runGenerated runs a program on a Rollcall. The program prints the address that it has registered and found.
func runGenerated(t *testing.T, program string, args ...string) {
	t.Helper()
	const token = "only-for-this-test"
	server := harness.StartRedis(t)
	p := harness.StartProcess(t, []string{"REDIS_URL=redis://" + server.Addr(), "PORT=0", "ROLLCALL_EDGE_PORT=0", "ROLLCALL_ADMIN_TOKEN=" + token}, "rollcall", "dev")
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "ROLLCALL_URL=http://"+p.Addr("API"), "ROLLCALL_TOKEN="+token)
	out, err := cmd.CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "127.0.0.1:9000" {
		t.Errorf("%v, output %q, want the registered address 127.0.0.1:9000", err, got)
	}
}
