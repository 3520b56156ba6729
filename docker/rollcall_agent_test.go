//go:build linux

package docker_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// startEvery starts every hook that this machine can run, on one registry.
func startEvery(t *testing.T, r *registry, e env, command ...string) []*running {
	t.Helper()
	var all []*running
	for _, h := range oneOfEachShell() {
		if h.missing() == nil {
			all = append(all, h.start(t, r, e, append([]string{}, command...)...))
		}
	}
	return all
}

func TestRegistersWhenTheRegistryComesLater(t *testing.T) {
	t.Parallel()
	port := harness.FreePort(t)
	all := startEvery(t, &registry{url: "http://127.0.0.1:" + strconv.Itoa(port)}, nil, appServes)
	for _, p := range all {
		p.says("up")
		p.eventually("it has tried", func() bool { return p.said("no registration at") })
	}
	r := launchOwn(t, port)
	for _, p := range all {
		p.registry = r
		p.awaitState("healthy")
		p.signal("TERM")
	}
	for _, p := range all {
		p.ends(0)
	}
}

func TestRegistersAgainWhenRedisHasLostEverything(t *testing.T) {
	t.Parallel()
	r := launchOwn(t, harness.FreePort(t))
	all := startEvery(t, r, env{"ROLLCALL_REASSERT": "1s"}, appServes)
	check := startEvery(t, r, env{"ROLLCALL_HEALTH_CMD": "true", "ROLLCALL_INTERVAL": "500ms", "ROLLCALL_REASSERT": "1m"}, appServes)
	all = append(all, check...)
	boots := map[string]string{}
	for _, p := range all {
		boots[p.id] = p.awaitState("healthy").Boot
	}
	r.flush(t)
	for _, p := range all {
		p.says("rollcall: Rollcall had lost %s: registered it again", p.id)
		if i := p.awaitState("healthy"); i.Boot != boots[p.id] {
			t.Errorf("%s has another boot nonce, though it was not started again: %q, %q", p.id, i.Boot, boots[p.id])
		}
	}
}

func TestReportsTheResultOfTheHealthCommand(t *testing.T) {
	t.Parallel()
	everyHook(t, func(t *testing.T, h hook) {
		sick := filepath.Join(t.TempDir(), "sick")
		p := h.start(t, shared(t), env{
			"SICK": sick, "ROLLCALL_INTERVAL": "1s", "ROLLCALL_FALL": "1",
			"ROLLCALL_HEALTH_CMD": `echo checking; if [ -e "$SICK" ]; then printf 'the "disk"\tis \\ full\n' >&2; exit 3; fi; echo fine`,
		}, appServes)
		if i := p.awaitState("healthy"); i.Check.Kind != "heartbeat" {
			t.Errorf("the check is %s", i.Check.Kind)
		}
		if err := os.WriteFile(sick, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		const note = `the 'disk'?is / full`
		p.eventually("it is unhealthy for the last line of the output", func() bool {
			i := p.registry.get(p.id)
			return i.State == "unhealthy" && strings.Contains(i.Last.Reason, note)
		})
		p.says("rollcall: health command: fail: " + note)
		_ = os.Remove(sick)
		p.awaitState("healthy")
		p.says("rollcall: health command: pass: fine")
	})
}

func TestAHealthCommandThatHangsFails(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		if !h.limits() {
			t.Skip("there is no timeout command")
		}
		command := "/bin/sleep 60"
		if h.name == "run" { // the children end, too: see cleanUp
			command = "/bin/sleep 600 & wait"
		}
		p := h.start(t, shared(t), env{
			"ROLLCALL_INTERVAL": "1s", "ROLLCALL_TIMEOUT": "1s", "ROLLCALL_HEALTH_CMD": command,
		}, appServes)
		p.eventually("it says so", func() bool { return p.said("rollcall: health command: fail: no result within 1") })
		p.signal("TERM")
		p.ends(0)
	})
}

func TestLogsARefusalOnceAndInFull(t *testing.T) {
	t.Parallel()
	everyHook(t, func(t *testing.T, h hook) {
		p := h.start(t, shared(t), env{"ROLLCALL_WEIGHT": "101"}, appServes)
		p.eventually("it says why", func() bool {
			return p.said("registration refused, trying again every 30 s: weight is 101; give ") && p.said(" (422)\n")
		})
		p.says("up")
		time.Sleep(1500 * time.Millisecond) // longer than the time to a second line, if it were not a refusal
		if n := strings.Count(p.output(), "registration refused"); n != 1 {
			t.Errorf("it is said %d times, want once:\n%s", n, p.output())
		}
		p.signal("TERM")
		p.ends(0)
	})
}

func TestEveryStartHasABootNonceOfItsOwn(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		var boots []string
		twice := fmt.Sprintf("twice-%s-%d", h.name, services.Add(1))
		for range 2 {
			p := h.start(t, shared(t), env{"ROLLCALL_ID": twice, "ROLLCALL_SERVICE": twice}, appServes)
			p.eventually("this start is registered", func() bool {
				i := p.registry.get(p.id)
				return i.Boot != "" && (len(boots) == 0 || i.Boot != boots[0])
			})
			boots = append(boots, p.registry.get(p.id).Boot)
			p.signal("TERM")
			p.ends(0)
		}
	})
}

// Two containers with one id are a mistake. The end of one must not remove the other.
func TestLeavesTheInstanceOfAnotherStartAlone(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		r := shared(t)
		p := h.start(t, r, nil, appServes)
		p.awaitState("healthy")
		p.says("rollcall: registered %s at 127.0.0.1:%d", p.id, p.port)
		other := url.Values{"service": {p.service}, "id": {p.id}, "boot": {"other"}, "port": {"1"}, "health": {"none"}}
		p.eventually("the other has registered, and will not be overtaken", func() bool {
			resp, err := client.PostForm(r.url+"/v1/register", other)
			if err != nil {
				return false
			}
			_ = resp.Body.Close()
			p.signal("TERM")
			return resp.StatusCode == http.StatusOK
		})
		p.says("got terminated")
		p.ends(0)
		p.says("rollcall: %s was started anew elsewhere: left alone", p.id)
		if i := r.get(p.id); i.State != "healthy" || i.Boot != "other" {
			t.Errorf("the other is %s", i.State)
		}
	})
}

func TestStopsRegisteringWhenItIsDrained(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		r := shared(t)
		p := h.start(t, r, env{"ROLLCALL_REASSERT": "500ms"}, appServes)
		p.awaitState("healthy")
		resp, err := client.Post(r.url+"/v1/instances/"+p.id+"/drain?hold=5s", "", nil) // another client
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		p.says("rollcall: %s is draining: not registered again by this start", p.id)
		p.awaitState("gone")
		time.Sleep(time.Second) // twice the time to the next registration
		p.awaitState("gone")
		p.signal("TERM")
		p.ends(0)
	})
}

func TestSendsTheTokenAndNeverShowsIt(t *testing.T) {
	t.Parallel()
	everyHook(t, func(t *testing.T, h hook) {
		const token = "s3cret-t0ken"
		var mu sync.Mutex
		calls := map[string]string{}
		shown := ""
		called := func(path string) string {
			mu.Lock()
			defer mu.Unlock()
			return calls[path]
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			calls[r.URL.Path] = r.Header.Get("Authorization")
			commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, path := range commands {
				if line, _ := os.ReadFile(path); bytes.Contains(line, []byte(token)) {
					shown = string(line)
				}
			}
			_, _ = w.Write([]byte(`{"id":"x","address":"there","boot":"b1"}`))
		}))
		t.Cleanup(server.Close)
		p := h.start(t, &registry{url: server.URL}, env{"ROLLCALL_TOKEN": token, "ROLLCALL_ID": "x", "ROLLCALL_BOOT": "b1", "ROLLCALL_HEALTH_CMD": "true"}, appServes)
		for _, path := range []string{"/v1/register", "/v1/instances/x/heartbeat"} {
			p.eventually(path+" is called with the token", func() bool { return called(path) == "Bearer "+token })
		}
		p.says("up")
		pid := p.line("pid ")
		environ, err := os.ReadFile("/proc/" + pid + "/environ")
		if err != nil || bytes.Contains(environ, []byte(token)) {
			t.Errorf("%v, or the command has the token in its environment", err)
		}
		p.signal("TERM")
		p.ends(0)
		if shown != "" {
			t.Errorf("the token is on a command line: %q", shown)
		}
		if got := called("/v1/instances/x/drain"); got != "Bearer "+token {
			t.Errorf("drain is called with %q", got)
		}
		if p.said(token) {
			t.Errorf("it shows the token:\n%s", p.output())
		}
	})
}

func TestRegistersTheUnambiguousAddressOfThePlatform(t *testing.T) {
	t.Parallel()
	ecs := func(mode string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"DockerId": "x", "Networks": [{"NetworkMode": "` + mode + `", "IPv4Addresses": [ "10.5.5.5" ]}]}`))
		}))
		t.Cleanup(server.Close)
		return server.URL + "/v4/x"
	}
	platforms := map[string]struct {
		env  env
		want string // {port} is the port of the command, {ip} an address of this row only
	}{
		"none":        {nil, "127.0.0.1:{port}"},
		"given":       {env{"ROLLCALL_ADDRESS": "{ip}:32768", "POD_IP": "10.1.1.1"}, "{ip}:32768"},
		"given host":  {env{"ROLLCALL_ADDRESS": "{ip}"}, "{ip}:{port}"},
		"port":        {env{"ROLLCALL_PORT": "4711", "POD_IP": "{ip}"}, "{ip}:4711"},
		"link":        {env{"ROLLCALL_PORT": "tcp://10.0.0.1:8080", "POD_IP": "{ip}"}, "{ip}:{port}"}, // to a service called rollcall
		"fly":         {env{"FLY_PRIVATE_IP": "fdaa:0:1::3"}, "[fdaa:0:1::3]:{port}"},
		"nomad":       {env{"NOMAD_HOST_ADDR_web": "{ip}:23456", "NOMAD_ADDR_web": "172.17.0.2:80"}, "{ip}:23456"},
		"nomad http":  {env{"NOMAD_ADDR_db": "10.2.2.2:1", "NOMAD_ADDR_http": "{ip}:23456"}, "{ip}:23456"},
		"nomad two":   {env{"NOMAD_ADDR_db": "10.2.2.2:1", "NOMAD_ADDR_web": "10.2.2.2:2"}, "127.0.0.1:{port}"},
		"ecs":         {env{"ECS_CONTAINER_METADATA_URI_V4": ecs("awsvpc")}, "10.5.5.5:{port}"},
		"ecs, bridge": {env{"ECS_CONTAINER_METADATA_URI_V4": ecs("bridge")}, "127.0.0.1:{port}"},
	}
	everyShell(t, func(t *testing.T, h hook) {
		if h.argv[0] == "bash" {
			t.Skip("nothing in it that dash would do otherwise")
		}
		started, ips := map[string]*running{}, map[string]string{}
		for name, platform := range platforms {
			n := services.Add(1)
			ips[name] = fmt.Sprintf("10.9.%d.%d", n/250, n%250+1)
			e := env{"ROLLCALL_HEALTH": "none", "ROLLCALL_ID": "at-{svc}"} // the default id names the port
			for variable, value := range platform.env {
				e[variable] = strings.ReplaceAll(value, "{ip}", ips[name])
			}
			started[name] = h.start(t, shared(t), e, "/bin/sleep", "60")
		}
		for name, p := range started {
			want := strings.NewReplacer("{port}", strconv.Itoa(p.port), "{ip}", ips[name]).Replace(platforms[name].want)
			p.eventually(name+": the address is "+want, func() bool { return p.registry.get(p.id).Address == want })
		}
	})
}
