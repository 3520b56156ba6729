package containers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLabelsAloneRegisterContainers runs unmodified memcached containers with labels on a real engine, beside the
// containers of the world, which register themselves, and beside another agent.
func TestLabelsAloneRegisterContainers(t *testing.T) { //nolint:paralleltest // it needs the machine alone
	w := newWorld(t)
	w.must(w.startAgent("agent-west", "west"))
	w.must(w.startLabelled("other", "west", "other"))
	w.must(w.startAgent("agent", "rollcall"))
	names := make([]string, 30)
	for n := range names {
		names[n] = fmt.Sprintf("label-%02d", n)
		w.must(w.startLabelled(names[n], "rollcall", "labelled"))
	}
	w.await("all labelled containers are healthy", time.Minute, func() error { return w.agreesWithEngine(names) })
	before, err := w.registry("other")
	w.must(err)

	w.scenario(t, "a container is routed after docker run", func(*testing.T) {
		began := time.Now()
		w.must(w.startLabelled("label-timed", "rollcall", "labelled"))
		names = append(names, "label-timed")
		w.await("one more container is healthy", time.Minute, func() error { return w.agreesWithEngine(names) })
		t.Logf("healthy and routed %s after docker run began", time.Since(began).Round(10*time.Millisecond))
	})

	w.scenario(t, "containers die, stop, pause and restart", func(t *testing.T) {
		w.run(t, append([]string{"kill"}, names[0:5]...)...)
		w.run(t, append([]string{"stop", "--time", "5"}, names[5:10]...)...)
		w.run(t, append([]string{"pause"}, names[10:13]...)...)
		w.run(t, append([]string{"restart", "--time", "1"}, names[13:18]...)...)
		names = names[10:]
		w.await("dead, stopped and paused containers are gone", time.Minute, func() error { return w.agreesWithEngine(names[3:]) })
	})

	w.scenario(t, "the agent is killed and comes back", func(t *testing.T) {
		w.run(t, "kill", "agent")
		w.run(t, "unpause", names[0], names[1], names[2])
		w.run(t, append([]string{"rm", "--force"}, names[3:6]...)...)
		w.run(t, "start", "agent")
		names = slices.Delete(names, 3, 6)
		w.await("it corrects the changes that it missed", time.Minute, func() error { return w.agreesWithEngine(names) })
	})

	w.scenario(t, "compose scales up and down", func(t *testing.T) {
		for _, n := range []int{6, 2, 4} {
			w.scale(t, n)
			w.await(fmt.Sprintf("%d scaled containers are healthy", n), time.Minute, func() error { return w.agreesWithEngine(nil) })
		}
	})

	after, err := w.registry("other") // before the restart of the engine: it does not restore published ports
	w.must(err)
	if !maps.Equal(before, after) {
		t.Errorf("instances that the agent did not register were\n%v\nand are\n%v", before, after)
	}

	w.scenario(t, "the engine is restarted and its containers live on", func(t *testing.T) {
		w.must(w.restart(true))
		w.must(w.agreesWithEngine(nil)) // nothing has changed
		w.run(t, "rm", "--force", names[0])
		w.must(w.startLabelled("label-later", "rollcall", "labelled"))
		w.await("the agent follows the events of the new daemon", time.Minute, func() error { return w.agreesWithEngine(nil) })
	})

	w.scenario(t, "the engine and all containers are restarted", func(t *testing.T) {
		w.run(t, append([]string{"update", "--restart", "always"}, strings.Fields(w.run(t, "ps", "--quiet"))...)...)
		w.must(w.restart(false))
		w.await("the registry is what runs again", 2*time.Minute, func() error {
			again, err := w.registry("other")
			if err == nil && len(again) != len(before) {
				err = fmt.Errorf("the other instances are %v", again)
			}
			if err != nil {
				return err
			}
			return w.agreesWithEngine(nil)
		})
	})
}

// startAgent starts an agent whose node has the name of its label prefix.
func (w *world) startAgent(name, prefix string) error {
	return w.start(name, east, rollcallImage, []string{
		"--user", "0", "--volume", w.dir + ":/engine", "--env", "DOCKER_HOST=unix:///engine/docker.sock",
		"--env", "ROLLCALL_URL=http://web:8080", "--env", "ROLLCALL_TOKEN=" + token,
	}, "docker", "--node", prefix, "--label-prefix", prefix)
}

var memcached = []string{"memcached", "--user=nobody", "--listen=0.0.0.0", "--memory-limit=16"}

// labels are the labels of a memcached in a service.
func labels(prefix, service string) []string {
	return []string{
		prefix + ".service=" + service, prefix + ".port=11211", prefix + ".health=memcached", prefix + ".host=" + service + ".local",
		prefix + ".interval=500ms", prefix + ".timeout=400ms",
	}
}

func (w *world) startLabelled(name, prefix, service string) error {
	var options []string
	for _, label := range labels(prefix, service) {
		options = append(options, "--label", label)
	}
	return w.start(name, east, baseImage, options, memcached...)
}

// scale has compose run n labelled containers.
func (w *world) scale(t *testing.T, n int) {
	t.Helper()
	compose := composeCommand(t)
	file := filepath.Join(w.dir, "scaled.yaml")
	text := fmt.Sprintf("version: \"3.5\"\nservices:\n  cache:\n    image: %s\n    command: %s\n    labels: [%s]\n    networks: [hosts]\nnetworks: {hosts: {name: east, external: true}}\n",
		baseImage, strings.Join(memcached, " "), strings.Join(labels("rollcall", "labelled"), ", "))
	w.must(os.WriteFile(file, []byte(text), 0o600))
	cmd := w.command(context.Background()) //nolint:usetesting // it must not end in the middle
	cmd.Path, cmd.Args = compose[0], append(slices.Clone(compose), "--file", file, "--project-name", "scaled", "up", "--detach", "--scale", fmt.Sprint("cache=", n))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compose: %v\n%s", err, tail(out, 2000))
	}
}

// agreesWithEngine compares the healthy labelled instances, and the frontend of their vhost, with the running containers of
// the engine. names are the containers that must run; nil: any.
func (w *world) agreesWithEngine(names []string) error {
	out, err := w.try("ps", "--filter", "status=running", "--filter", "label=rollcall.service=labelled", "--format", "{{.Names}}")
	if err != nil {
		return err
	}
	running := slices.Sorted(strings.FieldsSeq(out))
	if wanted := slices.Sorted(slices.Values(names)); names != nil && !slices.Equal(running, wanted) {
		return fmt.Errorf("running are %q, want %q", running, wanted)
	}
	var list struct {
		Instances []struct {
			Address string            `json:"address"`
			Meta    map[string]string `json:"meta"`
		} `json:"instances"`
	}
	if err := w.get("/v1/services/labelled", &list); err != nil {
		return err
	}
	registered := map[string]string{}
	for _, i := range list.Instances {
		registered[i.Meta["docker_name"]] = "http://" + i.Address
	}
	if got := slices.Sorted(maps.Keys(registered)); !slices.Equal(got, running) {
		return fmt.Errorf("healthy are %q, running are %q", got, running)
	}
	if out, err = w.try("exec", "redis", "redis-cli", "lrange", "frontend:labelled.local", "1", "-1"); err != nil {
		return err
	}
	if got, want := slices.Sorted(strings.FieldsSeq(out)), slices.Sorted(maps.Values(registered)); !slices.Equal(got, want) {
		return errors.New("the frontend is " + out)
	}
	return nil
}
