package containers

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rollcall/tests/docs/blocks"
)

// followed are the pages whose Docker blocks with a compose file are run here.
var followed = []string{"docs/getting-started.md", "docs/docker.md"}

// TestComposeCommandsOfThePages runs the blocks of the documentation that start a compose file, and compares their answers. The
// engine has no registry: a docker command in front of the PATH leaves out --build, and the images are stand-ins.
func TestComposeCommandsOfThePages(t *testing.T) { //nolint:paralleltest // the files publish the same ports
	compose := composeCommand(t)
	e := docker(t)
	loadStandIns(t, e)
	init, err := e.init()
	if err != nil {
		t.Fatal(err)
	}
	shell := pageShell{engine: e, compose: compose, init: init, bin: t.TempDir()}
	shell.writeDocker(t)
	t.Cleanup(func() { _ = shell.do("docker compose -f docker/compose.yaml down --volumes --timeout 5") })
	for _, page := range followed {
		text, err := os.ReadFile(filepath.Join(repository, page))
		if err != nil {
			t.Fatal(err)
		}
		ran := 0
		for _, f := range blocks.Fences(string(text)) {
			if f.Note != "not run: Docker" || !strings.Contains(f.Text, "docker compose -f ") {
				continue
			}
			for _, s := range blocks.Steps(f) {
				shell.follow(t, page, s)
				ran++
			}
		}
		if ran == 0 {
			t.Errorf("%s has no block with a compose file", page)
		}
	}
}

// pageShell runs commands of a page in the network of an engine, in the top folder of the project.
type pageShell struct {
	*engine
	compose   []string
	init, bin string
}

// writeDocker writes a docker command that passes "docker compose" to the program of this machine.
func (s pageShell) writeDocker(t *testing.T) {
	t.Helper()
	lines := []string{
		"#!/bin/bash", `[ "$1 $2" = "compose -f" ] || exec "$DOCKER" "$@"`, `file=$(basename "$3") args=()`,
		`for a in "${@:4}"; do [ "$a" = --build ] && a=--no-build; args+=("$a"); done`, "case $file in",
	}
	for _, file := range []string{"compose.yaml", "compose.labels.yaml"} {
		lines = append(lines, file+") file="+composeFile(t, s.compose, file)+" ;;")
	}
	lines = append(lines, "esac", "exec "+strings.Join(s.compose, " ")+` --file "$file" --project-directory docker --project-name rollcall "${args[@]}"`)
	if err := os.WriteFile(filepath.Join(s.bin, "docker"), []byte(strings.Join(lines, "\n")+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// do runs a command line.
func (s pageShell) do(line string) error {
	_, err := s.output(line)
	return err
}

func (s pageShell) output(line string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	docker, err := exec.LookPath("docker")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "nsenter", "--net=/proc/"+s.init+"/ns/net", "bash", "-c", line)
	cmd.Dir, cmd.Env = repository, append(s.command(ctx).Env, "PATH="+s.bin+":"+os.Getenv("PATH"), "DOCKER="+docker, "DOCKER_RUN="+s.dir)
	out, err := cmd.Output()
	return string(out), err
}

// follow runs one command. A page says that a request may be repeated until its answer is the shown one.
func (s pageShell) follow(t *testing.T, page string, step blocks.Step) {
	t.Helper()
	tries := time.Minute
	if !strings.HasPrefix(step.Command, "curl ") {
		tries = 0
	}
	var out string
	var err error
	for deadline := time.Now().Add(tries); ; {
		out, err = s.output(step.Command)
		if err == nil && (step.Answer == "" || blocks.Matches(step.Answer, out)) {
			return
		}
		if time.Now().After(deadline) {
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Errorf("%s, line %d: %s\n%v, got\n%s\nwant\n%s", page, step.Line, step.Command, err, out, step.Answer)
}
