package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"rollcall/tests/harness"
)

// managers are the command lines of the process managers for a Procfile, without its path and the base port. Each manager gives
// the first process the base port, the second one 100 more, and so on.
var managers = map[string][]string{
	"foreman":  {"foreman", "start", "-f"}, // Debian's ruby-foreman
	"honcho":   {"honcho", "start", "-f"},
	"overmind": {"overmind", "start", "-f"},
	// npm's foreman does not pass on SIGTERM: the test ends it as Ctrl-C does, with SIGINT to its process group.
	"nf": {"bash", "-c", `setsid nf start "$@" & trap 'kill -INT -- -$!' TERM; wait $!; wait $!`, "nf", "-j"},
}

func TestProcessManagersRunTheProcfile(t *testing.T) {
	t.Parallel()
	for name, command := range managers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := needManager(t, name)
			server, base := harness.StartRedis(t), basePort(t)
			line := append(slices.Clone(command), harness.ProcfilePath(), "-p", strconv.Itoa(base))
			// No process has migrated the keys of this Redis: all three try to at the same time.
			p := harness.StartProcess(t, append(env, "REDIS_URL=redis://"+server.Addr()), line[0], line[1:]...)
			a := api{t: t, base: "http://" + loopback(base)}
			a.ready()

			one := harness.NewBackend(t)
			const host = "managed.localhost"
			a.register(harness.Registration(one, "managed", host))
			a.awaitState("managed", "healthy")
			newVisitor(loopback(base+200)).awaitVisit(t, host, one)
			if v, err := server.Client(t).Get(t.Context(), "rollcall:schema").Int(); err != nil || v < 1 {
				t.Errorf("the schema is %d, %v", v, err)
			}

			p.End() // each manager has an exit code of its own for SIGTERM
			harness.Eventually(t, func() error {
				for _, port := range []int{base, base + 200} {
					if c, err := net.Dial("tcp", loopback(port)); err == nil {
						_ = c.Close()
						return fmt.Errorf("port %d still answers after the end of %s", port, name)
					}
				}
				return nil
			})
		})
	}
}

func TestForemanExportsUnitsOfSystemd(t *testing.T) {
	t.Parallel()
	needManager(t, "foreman")
	dir := t.TempDir()
	said, err := exec.Command("foreman", "export", "systemd", dir, "-a", "rollcall", "-u", "nobody", "-f", harness.ProcfilePath()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	checkUnits(t, dir)
}

func TestNpmForemanExportsUnitsOfSystemd(t *testing.T) {
	t.Parallel()
	env, dir := needManager(t, "nf"), t.TempDir()
	p := harness.StartProcess(t, env, "bash", "-c", `nf export -t systemd -o "$0" -a rollcall -u nobody -j "$1"`, dir, harness.ProcfilePath())
	if code := p.Wait(); code != 0 {
		t.Fatalf("it ends with %d\n%s%s", code, p.Out.String(), p.Log.String())
	}
	checkUnits(t, dir)
}

// checkUnits checks that a folder has a unit of each process of the Procfile.
func checkUnits(t *testing.T, dir string) {
	t.Helper()
	for name := range harness.Procfile(t) {
		units, _ := filepath.Glob(filepath.Join(dir, "rollcall-"+name+"*.service"))
		if len(units) != 1 {
			t.Errorf("%s has the units %v", name, units)
			continue
		}
		unit, err := os.ReadFile(units[0])
		if err != nil || !strings.Contains(string(unit), "rollcall "+name) || !strings.Contains(string(unit), "PORT=") {
			t.Errorf("%v, the unit of %s:\n%s", err, name, unit)
		}
	}
}

// needManager skips a test without a process manager. It returns the environment in which the manager is found.
func needManager(t *testing.T, name string) (env []string) {
	t.Helper()
	if name == "nf" {
		bin := harness.Npm(t, t.TempDir(), "foreman@3.0.1")
		return []string{"PATH=" + filepath.Dir(harness.Binary(t)) + ":" + bin + ":" + os.Getenv("PATH")}
	}
	if _, err := exec.LookPath(name); err != nil {
		if name == "foreman" && os.Getenv("CI") == "true" {
			t.Fatalf("%v: tests/install.sh installs it", err)
		}
		t.Skipf("needs %s: %v", name, err)
	}
	return nil
}

// basePort returns a port that is free, as are the ports 100 and 200 above it.
func basePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		base, free := harness.FreePort(t), 0
		for _, port := range []int{base + 100, base + 200} {
			if l, err := net.Listen("tcp", loopback(port)); err == nil {
				_ = l.Close()
				free++
			}
		}
		if free == 2 {
			return base
		}
	}
	t.Fatal("no three ports are free")
	return 0
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
