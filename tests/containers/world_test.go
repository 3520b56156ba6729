package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// The world of the tests: two Docker networks as two hosts. The registry is on the first host, memcached
// on the second, and every other program runs once on each:
//
//	          east 10.61.0.0/24                    west 10.62.0.0/24
//	redis  web :8080  cron  edge :8000       memcached
//	client-east  service-east                client-west  service-west
//
// Containers in the east have their own addresses, which Rollcall detects. After a kill the address
// does not answer until another container gets it. Containers in the west have published ports of their
// host, given to them by a variable. After a kill the port refuses connections.
const (
	east, west = "10.61.0.1", "10.62.0.1"

	apiAddr  = east + ":8080"
	edgeAddr = "127.0.0.1:8000" // in the engine's own network, see engine.Dial
	vhost    = "client.local"

	token = "of-everybody-in-the-world"
)

var networks = map[string]string{east: "east", west: "west"}

type world struct {
	*engine
	t    *testing.T
	http *http.Client
}

// hardened are the options of every container of ours.
var hardened = []string{"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}

// newWorld starts the world, which ends with the test.
func newWorld(t *testing.T) *world {
	t.Helper()
	e := docker(t)
	w := &world{engine: e, t: t, http: &http.Client{
		Transport: &http.Transport{DialContext: e.Dial, MaxIdleConnsPerHost: 100},
		Timeout:   10 * time.Second,
	}}
	t.Cleanup(w.end)
	for host, network := range networks {
		e.run(t, "network", "create", "--subnet", strings.TrimSuffix(host, "1")+"0/24", "--gateway", host,
			"--opt", "com.docker.network.bridge.enable_ip_masquerade=false", network)
	}
	w.must(e.route())
	w.must(w.startParts())
	w.await("the API is ready", 20*time.Second, func() error { return w.get("/readyz", nil) })
	w.must(w.startMemcached())
	ids := []string{"service-east", "service-west", "client-east", "client-west"}
	for _, id := range ids {
		w.must(w.startDemo(id))
	}
	for _, id := range append(ids, "memcached") {
		w.must(w.reach(id, "healthy"))
	}
	return w
}

// scenario is a subtest; failures of w go to it while it runs.
func (w *world) scenario(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		defer func(was *testing.T) { w.t = was }(w.t)
		w.t = t
		test(t)
	})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// end prints the logs if the test has failed, and removes everything.
func (w *world) end() {
	names, _ := w.try("ps", "--all", "--format", "{{.Names}}")
	if w.t.Failed() {
		for name := range strings.FieldsSeq(names) {
			w.t.Logf("log of %s:\n%s", name, w.log(name))
		}
	}
	w.removeAll(strings.Fields(names))
	for _, network := range networks {
		_, _ = w.try("network", "rm", network)
	}
	_, _ = w.try("volume", "rm", "registry")
	w.http.CloseIdleConnections()
}

func (w *world) removeAll(names []string) {
	if len(names) > 0 {
		_, _ = w.try(append([]string{"rm", "--force", "--volumes"}, names...)...)
	}
}

// start starts a container on one of the hosts.
func (e *engine) start(name, host, image string, options []string, command ...string) error {
	args := append([]string{"run", "--detach", "--name", name, "--hostname", name, "--network", networks[host]}, options...)
	_, err := e.try(append(append(args, image), command...)...)
	return err
}

func (w *world) startParts() error {
	err := w.start("redis", east, baseImage, []string{"--volume", "registry:/data"},
		"redis-server", "--dir", "/data", "--save", "", "--appendonly", "yes", "--protected-mode", "no")
	for role, publish := range map[string]string{"web": apiAddr + ":8080", "cron": "", "edge": edgeAddr + ":8000"} {
		options := append([]string{"--env", "REDIS_URL=redis://redis:6379", "--env", "ROLLCALL_ADMIN_TOKEN=" + token}, hardened...)
		if publish != "" {
			options = append(options, "--publish", publish)
		}
		err = errors.Join(err, w.start(role, east, rollcallImage, options, role))
	}
	return err
}

var lastPort atomic.Int32 // a published port is never used twice: a test does not meet the former server

func port() string { return strconv.Itoa(20000 + int(lastPort.Add(1))) }

// startMemcached starts memcached under the script, as a third-party image would.
func (w *world) startMemcached() error {
	options := w.registered("memcached", west, "11211", "")
	return w.start("memcached", west, baseImage, append(options, "--env", "ROLLCALL_HEALTH=memcached", "--entrypoint", "/rollcall.sh"),
		"--", "memcached", "-u", "nobody")
}

// startDemo starts a container of the demo under rollcall run. Its id begins with its role and names
// its host: client-east, service-west-7.
func (w *world) startDemo(id string, more ...string) error {
	role, where, _ := strings.Cut(id, "-")
	host := east
	if strings.HasPrefix(where, "west") {
		host = west
	}
	options := append(w.registered(id, host, "8080", "8081"), hardened...)
	options = append(options, "--env", "ROLLCALL_EXPECT="+role)
	if role == "client" {
		options = append(options, "--env", "ROLLCALL_HOST="+vhost)
	}
	return w.start(id, host, demoImage, append(options, more...), role)
}

// registered returns the options of a container that serves on a port, and answers health checks on
// another port if health is not 0.
func (w *world) registered(id, host, serve, admin string) []string {
	service, _, _ := strings.Cut(id, "-")
	options := []string{
		"--env", "ROLLCALL_ID=" + id, "--env", "ROLLCALL_SERVICE=" + service, "--env", "ROLLCALL_HOLD=1s", "--env", "ROLLCALL_TOKEN=" + token, "--env", "DEMO_TOKEN=" + token,
	}
	if host == east {
		options = append(options, "--env", "ROLLCALL_URL=http://web:8080", "--env", "ROLLCALL_PORT="+serve)
	} else {
		address := west + ":" + port()
		options = append(options, "--publish", address+":"+serve, "--env", "ROLLCALL_URL=http://"+apiAddr, "--env", "ROLLCALL_ADDRESS="+address)
	}
	if host == west && admin != "" {
		published := port()
		options = append(options, "--publish", west+":"+published+":"+admin)
		admin = published
	}
	if admin != "" {
		options = append(options, "--env", "ROLLCALL_HEALTH=:"+admin+"/healthcheck")
	}
	return options
}

// get reads an answer of the API.
func (w *world) get(path string, into any) error {
	status, _, text, err := harness.Ask(context.Background(), w.http, http.MethodGet, "http://"+apiAddr+path, nil, "Authorization", "Bearer "+token)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return &statusError{status, fmt.Sprintf("GET %s: %d %s", path, status, text)}
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal([]byte(text), into)
}

type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// state is the state of an instance in the registry, or "gone".
func (w *world) state(id string) (string, error) {
	var instance struct{ State string }
	err := w.get("/v1/instances/"+id, &instance)
	if status, ok := err.(*statusError); ok && status.status == http.StatusNotFound { //nolint:errorlint // get returns it bare
		return "gone", nil
	}
	return instance.State, err
}

// reach waits until an instance has a state.
func (w *world) reach(id, want string) error {
	return within(30*time.Second, id+" is "+want, func() error {
		got, err := w.state(id)
		if err == nil && got != want {
			err = fmt.Errorf("it is %s", got)
		}
		return err
	})
}

// routed returns the backends that the edge sends requests to, by instance.
func (w *world) routed() (map[string]bool, error) {
	var list struct {
		Frontends []struct {
			Host  string
			Slots []struct {
				Instance string
				Routed   bool
			}
		}
	}
	if err := w.get("/v1/frontends", &list); err != nil {
		return nil, err
	}
	routed := map[string]bool{}
	for _, f := range list.Frontends {
		for _, s := range f.Slots {
			if f.Host == vhost && s.Routed {
				routed[s.Instance] = true
			}
		}
	}
	return routed, nil
}

func (w *world) await(what string, d time.Duration, is func() error) {
	w.t.Helper()
	w.must(within(d, what, is))
}

// within repeats a check until it returns no error.
func within(d time.Duration, what string, is func() error) error {
	for deadline := time.Now().Add(d); ; time.Sleep(50 * time.Millisecond) {
		err := is()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("in vain for %s: %s: %w", d, what, err)
		}
	}
}
