package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestComposeFilesBringUpTheDemo starts each compose file as it is, on stand-ins for the images that it takes from a
// registry: compose.yaml with the hook in every container, compose.labels.yaml with labels alone.
func TestComposeFilesBringUpTheDemo(t *testing.T) { //nolint:paralleltest // the files publish the same ports
	compose := composeCommand(t)
	e := docker(t)
	loadStandIns(t, e)
	for _, file := range []string{"compose.yaml", "compose.labels.yaml"} { //nolint:paralleltest // the files publish the same ports
		t.Run(file, func(t *testing.T) {
			p := &project{engine: e, compose: append(slices.Clone(compose), "--file", composeFile(t, compose, file),
				"--project-directory", repository+"/docker", "--project-name", "rollcall")}
			t.Cleanup(func() { p.end(t) })
			p.run(t, "up", "--detach", "--no-build", "--quiet-pull")
			p.awaitWays(t, 2, 2)
			p.run(t, "up", "--detach", "--no-build", "--scale", "client=1", "--scale", "service=3", "client", "service")
			p.awaitWays(t, 1, 3)
		})
	}
}

// loadStandIns loads stand-ins for the images that the compose files take from a registry.
func loadStandIns(t *testing.T, e *engine) {
	t.Helper()
	if err := errors.Join(
		e.load(redisLike(), "redis:7-alpine", "WORKDIR /data"),
		e.load(e.base(), "memcached:1.6-alpine", "USER 11211", "EXPOSE 11211", `CMD ["memcached"]`),
	); err != nil {
		t.Fatal(err)
	}
}

// project is the demo of a compose file.
type project struct {
	*engine
	compose []string
}

// edgePort publishes the edge of a compose file.
const edgePort = "127.0.0.1:8009"

func (p *project) run(t *testing.T, args ...string) {
	t.Helper()
	cmd := p.command(context.Background()) //nolint:usetesting // it runs when the test is over, too
	cmd.Path, cmd.Args = p.compose[0], append(slices.Clone(p.compose), args...)
	cmd.Env = append(cmd.Env, "EDGE_PORT="+edgePort, "DOCKER_RUN="+p.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compose %s: %v\n%s", args, err, tail(out, 2000))
	}
}

// end removes the project. If the test has failed, it prints the logs first.
func (p *project) end(t *testing.T) {
	if t.Failed() {
		for name := range strings.FieldsSeq(p.engine.run(t, "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=rollcall")) {
			t.Logf("%s:\n%s", name, p.log(name))
		}
	}
	p.run(t, "down", "--volumes", "--timeout", "5")
}

// awaitWays waits until the entries of one answer's end have come through so many clients and services.
func (p *project) awaitWays(t *testing.T, clients, services int) {
	t.Helper()
	http := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return p.Dial(ctx, network, edgePort)
	}}}
	defer http.CloseIdleConnections()
	err := within(time.Minute, fmt.Sprintf("%d clients and %d services take part", clients, services), func() error {
		resp, err := http.Get("http://" + vhost + "/demo?last=20")
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
		by := map[string]bool{}
		for _, e := range entries {
			by["client "+e.Client], by["service "+e.Service] = true, true
		}
		if len(entries) < 20 || len(by) != clients+services {
			return fmt.Errorf("the last %d requests went through %v", len(entries), slices.Sorted(maps.Keys(by)))
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

// composeFile is a compose file; for the old program, without the project's name,
// which it does not know as a field.
func composeFile(t *testing.T, compose []string, file string) string {
	t.Helper()
	path := filepath.Join(repository, "docker", file)
	if len(compose) > 1 {
		return path
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "compose.yaml")
	text = regexp.MustCompile(`(?m)^name: .*$`).ReplaceAll(text, nil)
	if err := os.WriteFile(path, text, 0o600); err != nil {
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
