package e2e

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"

	"rollcall/tests/harness"
)

var update = flag.Bool("update", false, "write the golden outputs of the commands again")

// transcript is a list of commands with their outputs and exit codes.
const transcript = "testdata/commands.txt"

// volatile are the parts of an output that differ from run to run.
var volatile = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`), "TIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`\d\d:\d\d:\d\d\.\d{3}`), "TIME"},
	{regexp.MustCompile(`\d{13}-\d+`), "REVISION"},
	{regexp.MustCompile(`"instance_revision": \d+`), `"instance_revision": 1`},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ms|s|µs)\b`), "1s"},
	{regexp.MustCompile(`in \d+ ms`), "in 1 ms"},
	{regexp.MustCompile(`wh-[a-z0-9]{16}`), "wh-ID"},
	{regexp.MustCompile(`whsec_\S+`), "whsec_SECRET"},
	{regexp.MustCompile(`rct_\S+`), "rct_SECRET"},
	{regexp.MustCompile(`(?m)^[a-z0-9]{12}\b`), "TOKEN"},
	{regexp.MustCompile(`ping_[A-Z0-9]+`), "ping_ID"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(` {2,}`), "  "},
	{regexp.MustCompile(`(?m) +$`), ""},
}

func stable(text string) string {
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.by)
	}
	return text
}

// TestCommandsPrintTheirGoldenOutputs runs the commands of the transcript in order. RECEIVER is the URL of a receiver of
// webhooks; WEBHOOK and TOKEN are the last printed ids.
func TestCommandsPrintTheirGoldenOutputs(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	k := newStack(t)
	k.Process("cron")
	_, a := k.web()
	env := []string{"ROLLCALL_URL=" + a.base, "TZ=UTC"}
	values := map[string]string{"RECEIVER": receiver.URL}
	file, err := os.ReadFile(transcript)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for line := range strings.Lines(string(file)) {
		typed, is := strings.CutPrefix(line, "$ rollcall ")
		if !is {
			continue
		}
		args := strings.Fields(typed)
		for n := range args {
			for name, value := range values {
				args[n] = strings.ReplaceAll(args[n], name, value)
			}
		}
		code, out, log := harness.Run(t, env, args...)
		if id := regexp.MustCompile(`wh-[a-z0-9]{16}`).FindString(out); id != "" {
			values["WEBHOOK"] = id
		}
		if id := regexp.MustCompile(`(?m)^[a-z0-9]{12}\b`).FindString(out); id != "" {
			values["TOKEN"] = id
		}
		fmt.Fprintf(&got, "$ rollcall %s%s%s[%d]\n", typed, stable(out), stable(log), code)
	}
	if *update {
		if err := os.WriteFile(transcript, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(string(file), got.String()); d != "" && !*update {
		t.Errorf("%s (go test ./tests/e2e -run TestCommandsPrint -update writes it again):\n%s", transcript, d)
	}
}

// terminal is a command in a pseudo-terminal.
type terminal struct {
	t   *testing.T
	cmd *exec.Cmd
	tty *os.File

	mu   sync.Mutex
	text strings.Builder
	done chan struct{}
}

func inTerminal(t *testing.T, width uint16, env []string, args ...string) *terminal {
	t.Helper()
	return programInTerminal(t, width, env, harness.Binary(t), args...)
}

func programInTerminal(t *testing.T, width uint16, env []string, program string, args ...string) *terminal {
	t.Helper()
	c := &terminal{t: t, cmd: exec.Command(program, args...), done: make(chan struct{})}
	c.cmd.Env = append([]string{"TERM=xterm", "HOME=" + t.TempDir()}, env...)
	var err error
	if c.tty, err = pty.StartWithSize(c.cmd, &pty.Winsize{Rows: 24, Cols: width}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.tty.Close() })
	go func() {
		defer close(c.done)
		buffer := make([]byte, 4096)
		for {
			n, err := c.tty.Read(buffer)
			c.mu.Lock()
			c.text.Write(buffer[:n])
			c.mu.Unlock()
			if err != nil { // EIO when the command has ended
				return
			}
		}
	}()
	return c
}

func (c *terminal) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

func (c *terminal) shows(text string) {
	c.t.Helper()
	harness.Eventually(c.t, func() error {
		if out := c.output(); !strings.Contains(out, text) {
			return fmt.Errorf("%q does not have %q", out, text)
		}
		return nil
	})
}

func (c *terminal) types(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.tty, text); err != nil {
		c.t.Fatal(err)
	}
}

// ends returns the exit code.
func (c *terminal) ends() int {
	c.t.Helper()
	<-c.done
	err := c.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	} else if err != nil {
		c.t.Fatal(err)
	}
	return 0
}

var escapes = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`)

func TestCommandsFitTheirTerminal(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	k.Process("cron")
	_, a := k.web()
	env := []string{"ROLLCALL_URL=" + a.base}
	const interrupt = "\x03"
	for _, id := range []string{"an-instance-with-a-long-id-1", "an-instance-with-a-long-id-2"} {
		code, _, log := harness.Run(t, env, "register", "service=web", "id="+id, "address=10.0.0.1"+id[len(id)-1:]+":80", "health=none", "host=a-long-vhost.example")
		if code != 0 {
			t.Fatal(log)
		}
	}

	wide := inTerminal(t, 60, env, "ls")
	if code, out := wide.ends(), wide.output(); code != 0 || !strings.Contains(out, "\x1b[32mhealthy\x1b[0m") {
		t.Errorf("ls in a terminal ends with %d and prints %q, want a green state", code, out)
	}
	for line := range strings.Lines(escapes.ReplaceAllString(wide.output(), "")) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\r\n")); n > 60 {
			t.Errorf("a line of %d characters in a terminal with 60: %q", n, line)
		}
	}
	plain := inTerminal(t, 60, append(env, "NO_COLOR=1"), "ls")
	if code, out := plain.ends(), plain.output(); code != 0 || strings.Contains(out, "\x1b") {
		t.Errorf("ls with NO_COLOR ends with %d and prints %q", code, out)
	}

	watched := inTerminal(t, 100, env, "ls", "--watch")
	watched.shows("long-id-2")
	if code, _, log := harness.Run(t, env, "deregister", "an-instance-with-a-long-id-1"); code != 0 {
		t.Fatal(log)
	}
	harness.Eventually(t, func() error {
		_, last, redrawn := strings.Cut(watched.output(), "long-id-2")
		if !redrawn || !strings.Contains(last, "\x1b[2J") || strings.Contains(last[strings.LastIndex(last, "\x1b[2J"):], "long-id-1") {
			return fmt.Errorf("not drawn again: %q", watched.output())
		}
		return nil
	})
	watched.types(interrupt)
	if code := watched.ends(); code != 130 {
		t.Errorf("ls --watch ends with %d after ^C, want 130", code)
	}

	waiting := inTerminal(t, 100, env, "wait", "wbe", "--timeout", "1m")
	waiting.shows("\r\x1b[Kwaiting for wbe: no instance is registered; did you mean web?")
	waiting.types(interrupt)
	if code := waiting.ends(); code != 130 {
		t.Errorf("wait ends with %d after ^C, want 130", code)
	}
}

func TestShellsCompleteLiveNames(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	k.Process("cron")
	_, a := k.web()
	env := []string{"ROLLCALL_URL=" + a.base}
	if code, _, log := harness.Run(t, env, "register", "service=web", "id=web-1", "address=10.0.0.1:80", "health=none"); code != 0 {
		t.Fatal(log)
	}
	for line, want := range map[string]string{"rollcall show we": "web-1", "rollcall pick w": "web", "rollcall maint": "maintenance", "rollcall ls --st": "--state"} {
		code, out, log := harness.Run(t, append(env, "COMP_LINE="+line, fmt.Sprint("COMP_POINT=", len(line))))
		if code != 0 || strings.TrimSpace(out) != want {
			t.Errorf("%q is completed to %q (%d, %s), want %q", line, out, code, log, want)
		}
	}
	for _, shell := range []struct {
		name string
		args []string
		line string // turns on completion
	}{
		{"bash", []string{"--norc", "--noprofile", "-i"}, "source <(rollcall completion -c bash)"},
		{"zsh", []string{"--no-rcs", "-i"}, "source <(rollcall completion -c zsh)"},
		{"fish", []string{"--no-config", "-i"}, "rollcall completion -c fish | source"},
	} {
		t.Run(shell.name, func(t *testing.T) {
			t.Parallel()
			program := harness.Need(t, shell.name)
			path := "PATH=" + filepath.Dir(harness.Binary(t)) + string(os.PathListSeparator) + os.Getenv("PATH")
			c := programInTerminal(t, 100, append(env, path, "PS1=ready> "), program, shell.args...)
			c.types("echo be''gun\n")
			c.shows("begun")
			c.types(shell.line + "; echo sour''ced\n")
			c.shows("sourced")
			c.types("rollcall sho\twe\t")
			c.shows("web-1")
			c.types("\n")
			c.shows("10.0.0.1:80")
			c.types("exit 0\n")
			if code := c.ends(); code != 0 {
				t.Errorf("%s ends with %d", shell.name, code)
			}
		})
	}
}
