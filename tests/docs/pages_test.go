package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"rollcall/tests/docs/blocks"
	"rollcall/tests/harness"
)

// The notation of docs/*.md:
//
//   - a console block is run, and the output of each command is compared with the shown answer; "…" in it is any text;
//   - a block after the comment "not run: REASON" is not run; reasons explains each REASON;
//   - a block after the comment "file: NAME" is written to a file NAME beside the commands;
//   - commands reach Rollcall at 127.0.0.1:8080 or 10.0.0.2:8080, its edge at port 8000 and its Redis at port 6390.
//
// The commands of a page share one shell, one Rollcall and one folder.
const (
	notRun = "not run: "
	file   = "file: "
)

// reasons are the reasons for which a block is not run here.
var reasons = map[string]string{
	"Docker":      "the block needs a Docker engine; tests/containers starts the same files, images and options on one",
	"make run":    "the test starts the program of make run on free ports",
	"DNS":         "the test's Rollcall answers DNS itself; tests/e2e starts rollcall dns",
	"other hosts": "the block needs hosts that do not exist here: a receiver, an Alertmanager or a second Rollcall; tests/e2e has them",
}

// usual are the ports of the pages. Each run replaces them by free ones.
var usual = regexp.MustCompile(`\b(8080|8000|6390|8053|900[0-9])\b`)

// indented are commands without a fence, and languages are the ones of blocks without commands.
var (
	indented  = regexp.MustCompile(`(?m)^    (?:\$ )?(?:rollcall|curl|docker|make|export|redis-cli) .*`)
	languages = map[string]bool{"": true, "dockerfile": true, "json": true, "yaml": true, "go": true, "python": true, "text": true}
)

// TestPagesCanBeFollowed runs each command of docs/*.md and compares each shown answer.
func TestPagesCanBeFollowed(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"bash", "curl", "python3", "redis-cli", "dig", "openssl"} {
		harness.Need(t, program)
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 15 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, path := range pages {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			followPage(t, path)
		})
	}
}

// followPage runs the commands of one page.
func followPage(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range indented.FindAllString(string(text), -1) {
		t.Errorf("%q is a command outside of a console block", command)
	}
	count, files := 0, map[string]string{}
	var todo []blocks.Step
	for _, f := range blocks.Fences(string(text)) {
		reason, skipped := strings.CutPrefix(f.Note, notRun)
		name, written := strings.CutPrefix(f.Note, file)
		switch {
		case skipped && reasons[reason] == "":
			t.Errorf("line %d is not run because of %q, which reasons does not explain", f.Line, reason)
		case skipped:
			t.Logf("line %d is not run: %s", f.Line, reasons[reason])
		case written:
			files[name] = f.Text
		case f.Language == "console":
			count++
			todo = append(todo, blocks.Steps(f)...)
		case !languages[f.Language]:
			t.Errorf("line %d: a block of the language %q; write console for commands", f.Line, f.Language)
		}
	}
	t.Logf("%d blocks with %d commands are run", count, len(todo))
	if len(todo) > 0 {
		run(t, files, todo)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs commands in one shell, beside some files and on a Rollcall of their own, and compares their outputs.
func run(t *testing.T, files map[string]string, todo []blocks.Step) {
	t.Helper()
	dir := t.TempDir()
	translate, env := start(t, dir)
	for name, text := range files {
		write(t, filepath.Join(dir, name), translate(text))
	}
	var script strings.Builder
	script.WriteString("trap 'kill $(jobs -p) 2>/dev/null' EXIT\n")
	for _, s := range todo {
		fmt.Fprintf(&script, "%s\nprintf '\\n%s%%d\\n' $?\n", translate(s.Command), mark)
	}
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, env, time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	answers := regexp.MustCompile(`(?m)^`+mark+`(\d+)\n`).Split(string(out), -1)
	codes := regexp.MustCompile(`(?m)^`+mark+`(\d+)\n`).FindAllStringSubmatch(string(out), -1)
	for i, s := range todo {
		if i >= len(codes) {
			t.Fatalf("line %d: %s\ndid not end: %v\n%s", s.Line, s.Command, err, stderr.String())
		}
		if codes[i][1] != "0" {
			t.Errorf("line %d: %s\nexit status %s, output:\n%s", s.Line, s.Command, codes[i][1], answers[i])
		}
		if s.Answer != "" && !blocks.Matches(translate(s.Answer), answers[i]) {
			t.Errorf("line %d: %s\ngot\n%s\nwant\n%s", s.Line, s.Command, answers[i], translate(s.Answer))
		}
	}
	if t.Failed() {
		t.Logf("standard error:\n%s", stderr.String())
	}
}

// mark precedes the exit status of each command in the output of the shell.
const mark = "exit status of the command: "

// start starts a Rollcall. translate replaces the usual ports and the folder of a page; env is the environment of the commands.
func start(t *testing.T, dir string) (translate func(string) string, env []string) {
	t.Helper()
	ports := map[string]string{}
	for _, port := range []string{"8080", "8000", "8053", "9000", "9001", "9002", "9003"} {
		ports[port] = strconv.Itoa(harness.FreePort(t))
	}
	server := harness.StartRedis(t)
	_, ports["6390"], _ = strings.Cut(server.Addr(), ":")
	if err := server.Client(t).ConfigSet(t.Context(), "appendonly", "yes").Err(); err != nil { // else rollcall doctor reports it
		t.Fatal(err)
	}
	p := harness.StartProcess(t, []string{
		"REDIS_URL=redis://" + server.Addr(), "PORT=" + ports["8080"], "ROLLCALL_EDGE_PORT=" + ports["8000"], "ROLLCALL_DNS_PORT=" + ports["8053"],
		"ROLLCALL_DRAIN_HOLD=1s", "ROLLCALL_SETTLE=1s",
	}, "rollcall", "dev")
	p.Addr("edge")
	url := "http://" + p.Addr("API")

	write(t, filepath.Join(dir, ".curlrc"), "silent\nshow-error\n") // as in a terminal, where curl shows no progress
	env = append(os.Environ(), "PATH="+filepath.Dir(harness.Binary(t))+":"+os.Getenv("PATH"), "CURL_HOME="+dir, "ROLLCALL_URL="+url, "ROLLCALL_TOKEN=", "REDIS_URL=redis://"+server.Addr())
	return func(text string) string {
		text = strings.ReplaceAll(text, "10.0.0.2:8080", "127.0.0.1:8080")
		text = strings.ReplaceAll(text, "/tmp/", dir+"/")
		return usual.ReplaceAllStringFunc(text, func(port string) string {
			if free, ok := ports[port]; ok {
				return free
			}
			return port
		})
	}, env
}
