package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestComposeFileBringsUpTheDemo starts docker/compose.yaml as it is, on stand-ins for
// the images that it takes from a registry.
func TestComposeFileBringsUpTheDemo(t *testing.T) {
	t.Parallel()
	compose := composeCommand(t)
	e := docker(t)
	if err := errors.Join(
		e.load(redisLike(), "redis:7-alpine", "WORKDIR /data"),
		e.load(e.base(), "memcached:1.6-alpine", "USER 11211"),
	); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		cmd := e.command(context.Background()) //nolint:usetesting // it runs when the test is over
		cmd.Path, cmd.Args = compose[0], append(append(compose, "--file", composeFile(t, compose), "--project-directory", repository+"/docker",
			"--project-name", "rollcall"), args...)
		cmd.Env = append(cmd.Env, "EDGE_PORT=127.0.0.1:8009")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("compose %s: %v\n%s", args, err, tail(out, 2000))
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			for name := range strings.FieldsSeq(e.run(t, "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=rollcall")) {
				t.Logf("%s:\n%s", name, e.log(name))
			}
		}
		run("down", "--volumes", "--timeout", "5")
	})
	run("up", "--detach", "--no-build", "--quiet-pull")

	http := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return e.Dial(ctx, network, "127.0.0.1:8009")
	}}}
	ways := map[entry]bool{}
	err := within(time.Minute, "both clients and both services take part", func() error {
		resp, err := http.Get("http://" + vhost + "/demo")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		var entries []entry
		if err := json.Unmarshal(body, &entries); err != nil {
			return fmt.Errorf("%s: %s", resp.Status, body)
		}
		for _, e := range entries {
			ways[e] = true
		}
		if len(ways) < 4 {
			return fmt.Errorf("the requests took the ways %v", ways)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// composeCommand is the plugin of docker, or the program that it once was.
func composeCommand(t *testing.T) []string {
	t.Helper()
	if docker, err := exec.LookPath("docker"); err == nil && exec.Command(docker, "compose", "version").Run() == nil {
		return []string{docker, "compose"}
	}
	path, err := exec.LookPath("docker-compose")
	if err != nil {
		t.Skip("there is neither docker compose nor docker-compose")
	}
	return []string{path}
}

// composeFile is the compose file; for the old program, without the project's name,
// which it does not know as a field.
func composeFile(t *testing.T, compose []string) string {
	t.Helper()
	path := filepath.Join(repository, "docker/compose.yaml")
	if len(compose) > 1 {
		return path
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "\nname: rollcall\n", "\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// redisLike is a file system with Redis as its official image has it: open to the
// network of its container.
func redisLike() *image {
	i := newImage()
	i.program("redis-server")
	i.program("redis-cli")
	i.text("/usr/local/bin/redis-server", "#!/bin/sh\nexec /bin/redis-server \"$@\" --protected-mode no\n")
	return i
}
