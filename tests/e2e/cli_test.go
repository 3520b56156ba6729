package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"rollcall/migrations"
	"rollcall/tests/harness"
)

func TestHelpListsTheCommands(t *testing.T) {
	t.Parallel()
	code, out, log := harness.Run(t, nil, "--help")
	if code != 0 || log != "" {
		t.Errorf("rollcall --help ends with %d and says %q on standard error", code, log)
	}
	for _, command := range []string{"dev", "web", "cron", "serve", "edge", "migrate", "jobs run", "ls", "version"} {
		if !strings.Contains(out, "\n  "+command) {
			t.Errorf("rollcall --help does not list %s:\n%s", command, out)
		}
	}
	for _, line := range harness.Procfile(t) {
		command := strings.Fields(line)
		if command[0] != "rollcall" || !strings.Contains(out, "\n  "+command[1]) {
			t.Errorf("the Procfile has %q, which rollcall --help does not list", line)
		}
	}
}

func TestWrongCommandLinesExitWith2(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"", "nosuch", "web extra", "jobs", "jobs run", "ls --nosuch"} {
		code, _, log := harness.Run(t, nil, strings.Fields(args)...)
		if code != 2 || !strings.HasPrefix(log, "rollcall: ") && !strings.Contains(log, "\nrollcall: ") {
			t.Errorf("rollcall %s ends with %d and says %q, want 2 and the mistake", args, code, log)
		}
	}
}

func TestBadConfigurationNamesTheVariable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ command, variable, value string }{
		{"web", "PORT", "abc"},
		{"web", "PORT", "65536"},
		{"web", "PORT", "-1"},
		{"dev", "ROLLCALL_EDGE_PORT", "70000"},
		{"dev", "ROLLCALL_EMBEDDED_REDIS_PORT", "x"},
		{"cron", "REDIS_URL", "http://localhost"},
		{"cron", "REDIS_URL", "redis+sentinel://host"},
		{"web", "REDIS_URL", ""},
		{"cron", "REDIS_URL", ""},
		{"edge", "REDIS_URL", ""},
		{"migrate", "REDIS_URL", ""},
		{"jobs run probe", "REDIS_URL", ""},
		{"web", "ROLLCALL_BIND", "everywhere"},
		{"cron", "ROLLCALL_SETTLE", "5"},
		{"cron", "ROLLCALL_SETTLE", "1h"},
		{"web", "ROLLCALL_DRAIN_HOLD", "-1s"},
		{"web", "ROLLCALL_TRUSTED_PROXIES", "10.0.0.0/33"},
		{"cron", "ROLLCALL_HCHECKER_PING", "maybe"},
		{"serve", "ROLLCALL_LOG_LEVEL", "loud"},
	} {
		code, _, log := harness.Run(t, []string{c.variable + "=" + c.value}, strings.Fields(c.command)...)
		if code != 1 || !strings.Contains(log, c.variable) || strings.Count(strings.TrimSpace(log), "\n") > 0 {
			t.Errorf("%s=%s rollcall %s ends with %d and says %q, want 1 and one line that names %s",
				c.variable, c.value, c.command, code, log, c.variable)
		}
	}
}

func TestAPasswordInABadRedisURLIsNotRepeated(t *testing.T) {
	t.Parallel()
	code, _, log := harness.Run(t, []string{"REDIS_URL=redis://user:hunter2@host:port/x"}, "cron")
	if code != 1 || strings.Contains(log, "hunter2") || !strings.Contains(log, "REDIS_URL") {
		t.Errorf("it ends with %d and says %q", code, log)
	}
}

func TestPortInUseNamesTheVariable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, taken := range []string{"PORT", "ROLLCALL_EDGE_PORT", "ROLLCALL_EMBEDDED_REDIS_PORT"} {
		env := []string{"PORT=0", "ROLLCALL_EDGE_PORT=0", "ROLLCALL_EMBEDDED_REDIS_PORT=0", taken + "=" + port}
		code, _, log := harness.Run(t, env, "dev")
		last := harness.LastLines(log, 1)
		if code != 1 || !strings.Contains(last, taken+":") || !strings.Contains(last, "in use") {
			t.Errorf("with %s=%s in use it ends with %d and says %q, want 1 and the variable", taken, port, code, last)
		}
	}
}

func TestVersionMigrateAndLsPrintWhatTheyShould(t *testing.T) {
	t.Parallel()
	if code, out, log := harness.Run(t, nil, "version"); code != 0 || !strings.HasPrefix(out, "rollcall ") ||
		!strings.Contains(out, "go1.") || strings.Count(out, "\n") != 1 || log != "" {
		t.Errorf("version ends with %d and prints %q and %q", code, out, log)
	}

	k := newStack(t) // already migrated
	if code, out, log := harness.Run(t, k.Env, "migrate"); code != 0 || out != fmt.Sprintf("schema %d -> %[1]d\n", migrations.Latest) || log != "" {
		t.Errorf("migrate, once more, ends with %d and prints %q and %q", code, out, log)
	}
	k.Redis.Del(t.Context(), "rollcall:schema")
	if code, out, log := harness.Run(t, k.Env, "migrate"); code != 0 || out != fmt.Sprintf("schema 0 -> %d\n", migrations.Latest) || log != "" {
		t.Errorf("migrate ends with %d and prints %q and %q", code, out, log)
	}
	k.Redis.Set(t.Context(), "rollcall:schema", 1000, 0)
	for _, command := range []string{"migrate", "web", "cron", "edge"} {
		if code, _, log := harness.Run(t, k.Env, command); code != 1 || !strings.Contains(log, "newer") {
			t.Errorf("%s on a schema of the future ends with %d and says %q, want a refusal", command, code, log)
		}
	}
	k.Redis.Set(t.Context(), "rollcall:schema", migrations.Latest, 0)

	k.Process("cron")
	_, a := k.web()
	env := []string{"ROLLCALL_URL=" + a.base}
	const head = "SERVICE"
	if code, out, log := harness.Run(t, env, "ls"); code != 0 || !strings.HasPrefix(out, head) || strings.Count(out, "\n") != 1 || log != "" {
		t.Errorf("ls of nothing ends with %d and prints %q and %q, want the head of the table", code, out, log)
	}
	b := harness.NewBackend(t)
	a.register(harness.Registration(b, "one", "ls.localhost"))
	a.register(harness.Registration(b, "other", "other.localhost", "service", "db", "health", "heartbeat"))
	a.awaitState("one", "healthy")
	lines := func(service ...string) map[string][]string {
		t.Helper()
		code, out, log := harness.Run(t, env, append([]string{"ls"}, service...)...)
		if code != 0 || log != "" {
			t.Fatalf("ls %v ends with %d and says %q", service, code, log)
		}
		rows := map[string][]string{}
		for line := range strings.Lines(out) {
			if row := strings.Fields(line); row[0] != head {
				rows[row[1]] = row
			}
		}
		return rows
	}
	all := lines()
	one, other := all["one"], all["other"]
	if len(all) != 2 || len(one) != 6 || one[0] != "web" || one[2] != b.Addr || one[3] != "healthy" || one[5] != "ls.localhost" ||
		len(other) != 6 || other[0] != "db" || other[3] != "starting" {
		t.Errorf("ls prints %q", all)
	}
	if some := lines("db"); len(some) != 1 || some["other"] == nil {
		t.Errorf("ls db prints %q", some)
	}
	if code, _, log := harness.Run(t, env, "ls", "nosuch"); code != 1 || !strings.Contains(log, "not found") {
		t.Errorf("ls of a service that is not there ends with %d and says %q", code, log)
	}
	if code, _, log := harness.Run(t, []string{"ROLLCALL_URL=http://127.0.0.1:1"}, "ls"); code != 3 || !strings.Contains(log, "ROLLCALL_URL") {
		t.Errorf("ls without a Rollcall ends with %d and says %q", code, log)
	}
}

func TestServersEndOnSIGTERMWhileTheyWaitForRedis(t *testing.T) {
	t.Parallel()
	p := harness.StartProcess(t, []string{"REDIS_URL=redis://127.0.0.1:1", "PORT=0"}, "rollcall", "cron")
	harness.Eventually(t, func() error {
		if !strings.Contains(p.Log.String(), "waiting for Redis") {
			return errors.New("it does not say that it waits for Redis")
		}
		return nil
	})
	began := time.Now()
	p.End() // the exit code may vary: the process has not started to work
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s to end", took)
	}
	if log := p.Log.String(); strings.Contains(log, "for 30s") && time.Since(p.Started) < 25*time.Second {
		t.Errorf("it says that it has waited for 30 s:\n%s", log)
	}
	for line := range strings.Lines(p.Log.String()) {
		if !strings.HasPrefix(line, "{") && !strings.HasPrefix(line, "rollcall: ") {
			t.Errorf("a line of the log is no JSON: %s", line)
			break
		}
	}
}

func TestJobsOfThatNameAreListedWhenThereIsNone(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	code, _, log := harness.Run(t, k.Env, "jobs", "run", "nosuch")
	if code != 1 || !strings.Contains(log, "nosuch") {
		t.Errorf("it ends with %d and says %q", code, log)
	}
	_, a := k.web()
	if got := a.call(http.MethodPost, "/v1/jobs/nosuch/run", nil); got.status != http.StatusNotFound ||
		!strings.Contains(got.problem(t).Detail, "probe") {
		t.Errorf("the API answers %s, want 404 and what there is", got)
	}
}
