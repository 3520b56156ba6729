package containers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const replacements = 20

func TestDemo(t *testing.T) { //nolint:paralleltest // it measures, and needs the machine alone
	w := newWorld(t)

	w.scenario(t, "the list grows through every client and every service", func(t *testing.T) {
		ways := map[entry]bool{}
		for n := range 60 {
			entries, err := w.ask(0)
			w.must(err)
			if len(entries) != n+1 {
				t.Fatalf("answer %d has %d entries, want %d", n+1, len(entries), n+1)
			}
			ways[entries[n]] = true
		}
		if len(ways) != 4 {
			t.Errorf("60 requests took the ways %v, want both clients with both services", ways)
		}
	})

	w.scenario(t, "a killed container costs those it was serving at most", func(t *testing.T) {
		victims := []string{"client-east", "service-east"}
		lost := w.during(t, func() {
			for _, id := range victims {
				began := time.Now()
				w.run(t, "kill", id)
				w.must(w.reach(id, "unhealthy"))
				t.Logf("%s killed: unhealthy after %s", id, time.Since(began).Round(10*time.Millisecond))
			}
			// The service returns first, and gets the former address of the client.
			slices.Reverse(victims)
			for _, id := range victims {
				w.run(t, "start", id)
			}
			for _, id := range victims {
				w.must(w.reach(id, "healthy"))
			}
		})
		if len(lost) > 4 { // twice the requests that one container serves at a time
			t.Errorf("%d requests were lost", len(lost))
		}
	})

	w.scenario(t, "a stopped container costs nobody anything", func(t *testing.T) {
		w.lossless(t, func() {
			for _, id := range []string{"client-west", "service-west"} {
				began := time.Now()
				w.run(t, "stop", id)
				t.Logf("%s stopped in %s", id, time.Since(began).Round(10*time.Millisecond))
				w.must(w.endedWell(id))
				w.run(t, "start", id)
				w.must(w.reach(id, "healthy"))
			}
		})
	})

	w.scenario(t, "replacing every container many times over costs nobody anything", func(t *testing.T) {
		began := time.Now()
		w.lossless(t, func() {
			var all sync.WaitGroup
			failed := make([]error, 4)
			for n, id := range []string{"client-east", "client-west", "service-east", "service-west"} {
				all.Go(func() { failed[n] = w.replace(id, replacements) })
			}
			all.Wait()
			w.must(errors.Join(failed...))
		})
		t.Logf("%d replacements in %s", 4*replacements, time.Since(began).Round(time.Second))
	})
	clients := []string{fmt.Sprint("client-east-", replacements), fmt.Sprint("client-west-", replacements)}

	w.scenario(t, "a restart of Redis costs nobody anything, and the registry is as it was", func(t *testing.T) {
		before := w.settledRegistry()
		w.lossless(t, func() {
			began := time.Now()
			w.run(t, "restart", "redis")
			w.await("the API is ready", 20*time.Second, func() error { return w.get("/readyz", nil) })
			t.Logf("away for %s", time.Since(began).Round(10*time.Millisecond))
			w.await("the edge reads Redis", 5*time.Second, func() error { _, err := w.ask(1); return err })
		})
		after, err := w.registry()
		w.must(err)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Error("the registry before (-) and after (+): ", diff)
		}
	})

	w.scenario(t, "a restart of Rollcall costs nobody anything", func(t *testing.T) {
		before := w.settledRegistry()
		w.lossless(t, func() {
			w.run(t, "restart", "web")
			w.run(t, "restart", "cron")
			w.await("the API is ready", 20*time.Second, func() error { return w.get("/readyz", nil) })
			time.Sleep(2500 * time.Millisecond) // an interval, in which every instance is probed
		})
		after, err := w.registry()
		w.must(err)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Error("the registry before (-) and after (+): ", diff)
		}
	})

	w.scenario(t, "a client that hangs is found out", func(t *testing.T) {
		victim := clients[0]
		var out time.Time
		lost := w.during(t, func() {
			began := time.Now()
			w.run(t, "pause", victim)
			w.await("nothing is sent to it", 20*time.Second, func() error {
				routed, err := w.routed()
				if err == nil && routed[victim] {
					err = errors.New("it is routed")
				}
				return err
			})
			out = time.Now()
			took := out.Sub(began)
			t.Logf("out %s after it was paused; promised are 5 s", took.Round(10*time.Millisecond))
			if took > 8*time.Second {
				t.Error("that is too long")
			}
			time.Sleep(time.Second)
			w.run(t, "unpause", victim)
			w.must(w.reach(victim, "healthy"))
		})
		for _, a := range lost {
			if a.at.After(out.Add(100 * time.Millisecond)) {
				t.Errorf("a request that came %s after it was out was lost: %v", a.at.Sub(out), a.err)
			}
		}
	})

	w.scenario(t, "a memcached that hangs is found out by asking it, and not by connecting", func(t *testing.T) {
		before, err := w.ask(0)
		w.must(err)
		w.must(w.register(url.Values{"service": {"sham"}, "id": {"sham"}, "health": {"tcp"}, "address": {w.address("memcached")}}))
		w.must(w.reach("sham", "healthy"))
		began := time.Now()
		w.run(t, "pause", "memcached")
		w.must(w.reach("memcached", "unhealthy"))
		t.Logf("unhealthy %s after it was paused", time.Since(began).Round(10*time.Millisecond))
		time.Sleep(time.Second)
		if state, err := w.state("sham"); err != nil || state != "healthy" {
			t.Errorf("by its port alone it is %s, %v; want healthy, which is why there is a better probe", state, err)
		}
		if _, err := w.ask(1); err == nil || !strings.Contains(err.Error(), "memcached") {
			t.Errorf("the answer without memcached says %v, want what is missing", err)
		}
		for _, id := range clients {
			if state, _ := w.state(id); state != "healthy" {
				t.Errorf("%s is %s, though it is not its fault", id, state)
			}
		}
		w.run(t, "unpause", "memcached")
		w.must(w.reach("memcached", "healthy"))
		w.await("the list is back", 5*time.Second, func() error {
			entries, err := w.ask(0)
			if err == nil && len(entries) <= len(before)/2 {
				err = fmt.Errorf("it has %d entries, had %d", len(entries), len(before))
			}
			return err
		})
	})

	w.scenario(t, "a browser shows the list", func(t *testing.T) { w.browse(t) })

	w.scenario(t, "what the script has in its charge leaves before it stops", func(t *testing.T) {
		w.run(t, "stop", "memcached")
		w.must(w.endedWell("memcached"))
		w.must(w.reach("memcached", "gone"))
		if log := w.log("memcached"); !strings.Contains(log, "drain") {
			t.Errorf("it says nothing of it:\n%s", log)
		}
	})
}

// replace replaces an instance n times: the new one is healthy before the old one is
// told to stop.
func (w *world) replace(id string, n int) error {
	replaced := []string{id}
	for n := range n {
		next := fmt.Sprint(id, "-", n+1)
		if err := w.startDemo(next, "--env", "ROLLCALL_RISE=1"); err != nil {
			return err
		}
		if err := w.reach(next, "healthy"); err != nil {
			return err
		}
		if _, err := w.try("stop", replaced[n]); err != nil {
			return err
		}
		replaced = append(replaced, next)
	}
	replaced = replaced[:n]
	if err := w.endedWell(replaced...); err != nil {
		return err
	}
	_, err := w.try(append([]string{"rm"}, replaced...)...)
	return err
}

// endedWell checks that stopped containers have ended by themselves: within their
// grace, and without having been killed.
func (w *world) endedWell(ids ...string) error {
	codes, err := w.try(append([]string{"wait"}, ids...)...)
	if err != nil {
		return err
	}
	for n, code := range strings.Fields(codes) {
		if code != "0" {
			return fmt.Errorf("%s exited with %s: %s", ids[n], code, w.log(ids[n]))
		}
	}
	return nil
}

// registry is what must survive: who is there since when, and who is routed.
func (w *world) registry(more ...string) (map[string]string, error) {
	seen := map[string]string{}
	for _, service := range append([]string{"client", "service", "memcached"}, more...) {
		var list struct {
			Instances []struct{ ID, Address, State, Since string }
		}
		if err := w.get("/v1/services/"+service+"?state=any", &list); err != nil {
			return nil, err
		}
		for _, i := range list.Instances {
			seen[i.ID] = strings.Join([]string{i.Address, i.State, i.Since}, " ")
		}
	}
	routed, err := w.routed()
	for id := range routed {
		seen[id] += " routed"
	}
	return seen, err
}

// settledRegistry is the registry once no instance is draining.
func (w *world) settledRegistry() (seen map[string]string) {
	w.t.Helper()
	w.await("no instance is draining", 30*time.Second, func() (err error) {
		if seen, err = w.registry(); err != nil {
			return err
		}
		for id, state := range seen {
			if strings.Contains(state, " draining ") {
				return fmt.Errorf("%s is draining", id)
			}
		}
		return nil
	})
	return seen
}

// address is where an instance is registered to be.
func (w *world) address(id string) string {
	w.t.Helper()
	var instance struct{ Address string }
	w.must(w.get("/v1/instances/"+id, &instance))
	return instance.Address
}

func (w *world) register(form url.Values) error {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+apiAddr+"/v1/register", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := w.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if !slices.Contains([]int{http.StatusOK, http.StatusCreated}, resp.StatusCode) {
		return fmt.Errorf("register: %s", resp.Status)
	}
	return nil
}
