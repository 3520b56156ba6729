package containers

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLabelsAloneRegisterContainers runs unmodified memcached containers with labels on a real engine, beside the
// containers of the world, which register themselves.
func TestLabelsAloneRegisterContainers(t *testing.T) { //nolint:paralleltest // it needs the machine alone
	w := newWorld(t)
	before, err := w.registry()
	w.must(err)
	w.must(w.startLabelAgent())
	names := make([]string, 30)
	for n := range names {
		names[n] = fmt.Sprintf("label-%02d", n)
		w.must(w.startLabelled(names[n]))
	}
	w.await("all labelled containers are healthy", time.Minute, func() error { return w.agreesWithEngine(names) })

	began := time.Now()
	w.must(w.startLabelled("label-timed"))
	names = append(names, "label-timed")
	w.await("one more container is healthy", time.Minute, func() error { return w.agreesWithEngine(names) })
	t.Logf("healthy and routed %s after docker run began", time.Since(began).Round(10*time.Millisecond))

	w.run(t, append([]string{"kill"}, names[0:5]...)...)
	w.run(t, append([]string{"stop", "--time", "5"}, names[5:10]...)...)
	w.run(t, append([]string{"pause"}, names[10:13]...)...)
	w.run(t, append([]string{"restart", "--time", "1"}, names[13:18]...)...)
	w.await("dead, stopped and paused containers are gone", time.Minute, func() error { return w.agreesWithEngine(names[13:]) })

	w.run(t, "kill", "agent")
	w.run(t, "unpause", names[10], names[11], names[12])
	w.run(t, append([]string{"rm", "--force"}, names[13:16]...)...)
	w.run(t, "rm", "--force", "agent")
	w.must(w.startLabelAgent())
	rest := slices.Concat(names[10:13], names[16:])
	w.await("a new agent corrects the changes that it missed", time.Minute, func() error { return w.agreesWithEngine(rest) })

	after, err := w.registry()
	w.must(err)
	for id := range before {
		if after[id] != before[id] {
			t.Errorf("%s, which registered itself, was %s and is %s", id, before[id], after[id])
		}
	}
}

func (w *world) startLabelAgent() error {
	return w.start("agent", east, rollcallImage, []string{
		"--user", "0", "--volume", w.dir + ":/engine", "--env", "DOCKER_HOST=unix:///engine/docker.sock",
		"--env", "ROLLCALL_URL=http://web:8080", "--env", "ROLLCALL_TOKEN=" + token,
	}, "docker", "--node", "east")
}

func (w *world) startLabelled(name string) error {
	return w.start(name, east, baseImage, []string{
		"--label", "rollcall.service=labelled", "--label", "rollcall.port=11211", "--label", "rollcall.health=memcached",
		"--label", "rollcall.host=labelled.local", "--label", "rollcall.interval=500ms", "--label", "rollcall.timeout=400ms",
	}, "memcached", "--user=nobody", "--listen=0.0.0.0", "--memory-limit=16")
}

// agreesWithEngine compares the healthy labelled instances, and the frontend of their vhost, with the containers.
func (w *world) agreesWithEngine(names []string) error {
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
	if got, want := slices.Sorted(maps.Keys(registered)), slices.Sorted(slices.Values(names)); !slices.Equal(got, want) {
		return fmt.Errorf("healthy are %q, want %q", got, want)
	}
	out, err := w.try("exec", "redis", "redis-cli", "lrange", "frontend:labelled.local", "1", "-1")
	if err != nil {
		return err
	}
	if got, want := slices.Sorted(strings.FieldsSeq(out)), slices.Sorted(maps.Values(registered)); !slices.Equal(got, want) {
		return errors.New("the frontend is " + out)
	}
	return nil
}
