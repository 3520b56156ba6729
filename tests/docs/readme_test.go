// Package docs runs the commands of README.md and docs/*.md, and compares the answers that they show.
package docs

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"rollcall/tests/docs/blocks"
	"rollcall/tests/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m).Run()) }

// block is a fenced console block: its lines without the prompt.
var block = regexp.MustCompile("(?s)```console\n(.*?)```")

// TestReadmeCanBeFollowed runs the blocks of "Try it" in their order, in one shell. `make run` is replaced by the program that it
// starts, and each port by a free one.
func TestReadmeCanBeFollowed(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"bash", "curl", "python3"} {
		harness.Need(t, program)
	}
	ports, env := map[string]string{}, []string{}
	for port, variable := range map[string]string{"8080": "PORT", "8000": "ROLLCALL_EDGE_PORT", "6390": "ROLLCALL_EMBEDDED_REDIS_PORT", "9000": "", "9001": ""} {
		ports[port] = strconv.Itoa(harness.FreePort(t))
		if variable != "" {
			env = append(env, variable+"="+ports[port])
		}
	}
	blocks := tryIt(t)
	if len(blocks) != 4 || blocks[0] != "make run\n" {
		t.Fatalf("Try it has the blocks %q, want make run and three more", blocks)
	}
	p := harness.StartProcess(t, env, "rollcall", "dev")
	p.Addr("API")
	p.Addr("edge")

	const between = "\necho '--- next block'\n"
	script := "trap 'kill $(jobs -p) 2>/dev/null' EXIT\n" + strings.Join(blocks[1:], between)
	script = strings.ReplaceAll(script, "/tmp/site", t.TempDir())
	script = regexp.MustCompile(`\b(8080|8000|9000|9001)\b`).ReplaceAllStringFunc(script, func(port string) string { return ports[port] })
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	out, err := cmd.Output()
	answers := strings.Split(string(out), "--- next block\n")
	if err != nil || len(answers) != 3 {
		t.Fatalf("%v\n%s\nof\n%s", err, out, script)
	}
	if !strings.Contains(answers[0], `"state":"healthy"`) || !strings.Contains(answers[0], "Directory listing") {
		t.Errorf("the first server is not reached:\n%s", answers[0])
	}
	if !strings.Contains(answers[1], `"state":"healthy"`) {
		t.Errorf("the second server is not healthy:\n%s", answers[1])
	}
	if got := strings.Fields(answers[2]); strings.Join(got, " ") != "50 200" {
		t.Errorf("the visitor's answers are %q, want 50 times 200", answers[2])
	}
}

// TestTheCommandsOfTheReadmeAnswer runs the table "Five commands for the night" on a Rollcall with the services that it names.
func TestTheCommandsOfTheReadmeAnswer(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Five commands")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `(rollcall [^`]*)` \\|").FindAllStringSubmatch(section, -1)
	if len(rows) != 5 {
		t.Fatalf("the table has the commands %q, want five", rows)
	}
	todo := []blocks.Step{
		{Command: "rollcall register service=web id=w address=10.0.0.1:80 health=none host=shop.example.com"},
		{Command: "rollcall register service=memcached id=m address=10.0.0.2:11211 health=none"},
	}
	for _, row := range rows {
		command := row[1]
		if command == "rollcall watch" {
			command = "timeout 2 rollcall watch || [ $? = 124 ]"
		}
		todo = append(todo, blocks.Step{Command: command})
	}
	run(t, nil, todo)
}

// tryIt returns the console blocks of the section "Try it" of README.md, without prompts.
func tryIt(t *testing.T) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Try it\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, found := range block.FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, strings.ReplaceAll("\n"+found[1], "\n$ ", "\n")[1:])
	}
	return blocks
}
