package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"rollcall/tests/harness"
)

// The process managers for a Procfile. npm's foreman is not among them: it does not pass on SIGTERM. Each gives the first process the base port, the second one 100 more, and so on.
var managers = map[string]func(procfile, base string) []string{
	"foreman": func(procfile, base string) []string { // Debian's ruby-foreman
		return []string{"foreman", "start", "-f", procfile, "-p", base}
	},
	"honcho":   func(procfile, base string) []string { return []string{"honcho", "-f", procfile, "-p", base, "start"} },
	"overmind": func(procfile, base string) []string { return []string{"overmind", "start", "-f", procfile, "-p", base} },
}

func TestProcessManagersRunTheProcfile(t *testing.T) {
	t.Parallel()
	for name, command := range managers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			needManager(t, name)
			server, base := harness.StartRedis(t), basePort(t)
			line := command(harness.ProcfilePath(), strconv.Itoa(base))
			// No process has migrated the keys of this Redis: all three try to at the same time.
			p := harness.StartProcess(t, []string{"REDIS_URL=redis://" + server.Addr()}, line[0], line[1:]...)
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

// needManager skips a test without a process manager.
func needManager(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if name == "foreman" && os.Getenv("CI") == "true" {
			t.Fatalf("%v: tests/install.sh installs it", err)
		}
		t.Skipf("needs %s: %v", name, err)
	}
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
