package boot

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheDocumentationListsEveryVariable(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for f := range reflect.TypeFor[Config]().Fields() {
		if f.Tag.Get("env") == "" {
			continue // of tests
		}
		def := f.Tag.Get("envDefault")
		if def != "" {
			def = "`" + def + "` "
		}
		row := fmt.Sprintf("| `%s` | %s| %s |\n", f.Tag.Get("env"), def, f.Tag.Get("doc"))
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/configuration.md lacks the row\n%s", row)
		}
	}
}

func TestABadValueNamesItsVariable(t *testing.T) {
	t.Parallel()
	for _, set := range []string{
		"PORT=http", "PORT=70000", "PORT=-1", "ROLLCALL_EDGE_PORT=x", "ROLLCALL_EMBEDDED_REDIS_PORT=65536", "ROLLCALL_BIND=localhost",
		"REDIS_URL=http://localhost", "REDIS_URL=localhost:6379", "REDIS_URL=redis+sentinel://", "REDIS_URL=redis+sentinel://host/primary/x",
		"ROLLCALL_SETTLE=5", "ROLLCALL_SETTLE=0s", "ROLLCALL_SETTLE=1h", "ROLLCALL_DRAIN_HOLD=-1s", "ROLLCALL_TRUSTED_PROXIES=10.0.0.1",
		"ROLLCALL_HCHECKER_PING=maybe", "ROLLCALL_LOG_LEVEL=loud", "ROLLCALL_ADMIN_TOKEN=fifteen letters", "ROLLCALL_PROBE_NETWORKS=10.0.0.0",
		"ROLLCALL_WEBHOOK_NETWORKS=everybody", "ROLLCALL_REGISTER_RATE=-1", "ROLLCALL_REGISTER_RATE=many", "ROLLCALL_MAX_INSTANCES=-1", "ROLLCALL_MAX_BACKENDS=-1",
		"ROLLCALL_MAX_HOSTS=0", "ROLLCALL_MAX_BODY=0", "ROLLCALL_MAX_BODY=1k", "ROLLCALL_EDGE_TIMEOUT=0s", "ROLLCALL_EDGE_TIMEOUT=30",
		"ROLLCALL_EDGE_CONNECT_TIMEOUT=-1s",
	} {
		name, _, _ := strings.Cut(set, "=")
		if _, err := Load([]string{set}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want an error that names %s", set, err, name)
		}
	}
}

// maxWait is the longest ?wait= of the API, which may be called through the edge.
const maxWait = 5 * time.Minute

func TestTheEdgeOutlastsEveryWait(t *testing.T) {
	t.Parallel()
	c, err := Load(nil)
	if err != nil || c.EdgeTimeout < maxWait+30*time.Second {
		t.Errorf("the edge waits %s, %v; want well above %s", c.EdgeTimeout, err, maxWait)
	}
}

func TestAnErrorDoesNotShowThePassword(t *testing.T) {
	t.Parallel()
	for _, set := range []string{
		"REDIS_URL=redis://u:hunter2@host:port", "REDIS_URL=redis+sentinel://u:hunter2@host/", "REDIS_URL=htp://:hunter2@h", "ROLLCALL_ADMIN_TOKEN=hunter2",
	} {
		if _, err := Load([]string{set}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", set, err)
		}
	}
}

func TestWhomRollcallMayCall(t *testing.T) {
	t.Parallel()
	const (
		private  = "10.0.0.1 172.31.0.1 192.168.1.1 100.64.0.1 fd00::1"
		loopback = "127.0.0.1 ::1"
		public   = "8.8.8.8 172.32.0.1 2606:4700::1"
	)
	for _, c := range []struct {
		set         []string
		probe, tell string
	}{
		{nil, private + " " + loopback, private + " " + loopback + " " + public},
		{[]string{"ROLLCALL_BIND=0.0.0.0"}, private, private + " " + public},
		{[]string{"ROLLCALL_BIND=10.0.0.1"}, private, private + " " + public},
		{[]string{"ROLLCALL_PROBE_NETWORKS=8.8.8.0/24,127.0.0.0/8", "ROLLCALL_WEBHOOK_NETWORKS=fd00::/8"}, "8.8.8.8 127.0.0.1", "fd00::1"},
	} {
		config, err := Load(c.set)
		if err != nil {
			t.Fatal(err)
		}
		for address := range strings.FieldsSeq(private + " " + loopback + " " + public) {
			addr := netip.MustParseAddr(address)
			if got, want := config.mayProbe(addr), slices.Contains(strings.Fields(c.probe), address); got != want {
				t.Errorf("%q: may probe %s: %t", c.set, address, got)
			}
			if got, want := config.mayTell(addr), slices.Contains(strings.Fields(c.tell), address); got != want {
				t.Errorf("%q: may tell %s: %t", c.set, address, got)
			}
		}
	}
}

func TestRedisURLsAreUnderstood(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"redis://:pw@h:1/3":                         "[h:1]  pw 3  false",
		"rediss://u:pw@h:1":                         "[h:1] u pw 0  true",
		"unix:///run/redis.sock?db=2":               "[/run/redis.sock]   2  false",
		"redis+sentinel://a,b:1/mine":               "[a:26379 b:1]   0 mine false",
		"redis+sentinel://u:p%40w@a/mine/4":         "[a:26379] u p@w 4 mine false",
		"redis+sentinel://[fd00::1]:26380,b/mine/0": "[[fd00::1]:26380 b:26379]   0 mine false",
	} {
		o, err := redisOptions(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if got := fmt.Sprint(o.Addrs, " ", o.Username, " ", o.Password, " ", o.DB, " ", o.MasterName, " ", o.TLSConfig != nil); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

func TestAMisspeltVariableIsAnError(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"ROLLCALL_ADMIN_TOKN": "did you mean ROLLCALL_ADMIN_TOKEN?", "ROLLCALL_ADMINTOKEN": "did you mean ROLLCALL_ADMIN_TOKEN?",
		"ROLLCALL_TRUSTED_PROXY": "did you mean ROLLCALL_TRUSTED_PROXIES?", "ROLLCALL_DRAIN_HOLDS": "did you mean ROLLCALL_DRAIN_HOLD?",
		"ROLLCALL_EGDE_PORT": "did you mean ROLLCALL_EDGE_PORT?", "ROLLCALL_admin_token": "there is no variable ROLLCALL_admin_token",
		"ROLLCALL_XYZZY_PLUGH": "docs/configuration.md lists all of them", "ROLLCALL_": "there is no variable ROLLCALL_;",
	} {
		if _, err := Load([]string{name + "=10.0.0.0/8"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	others := []string{
		"ROLLCALL_ADMIN_TOKN=", "ROLLCALL=x", "ROLLCALLS_URL=x", "PATH=/bin", // empty, and somebody else's
		"ROLLCALL_PORT=tcp://10.0.0.1:8080", "ROLLCALL_PORT_8080_TCP=tcp://10.0.0.1:8080", "ROLLCALL_PORT_8080_TCP_ADDR=10.0.0.1", // links
		"ROLLCALL_NAME=/web/rollcall", "ROLLCALL_ENV_GOLANG_VERSION=1", "ROLLCALL_SERVICE_HOST=10.0.0.1", "ROLLCALL_SERVICE_PORT_HTTP=80",
		"ROLLCALL_WEB_PORT=tcp://10.0.0.1:8080", "ROLLCALL_WEB_SERVICE_HOST=10.0.0.1", "ROLLCALL_WEB_SERVICE_PORT=80",
		"ROLLCALL_URL=http://a", "ROLLCALL_HEALTH_CMD=true", // of the hook
	}
	if _, err := Load(others); err != nil {
		t.Error(err)
	}
}

func TestWhiteSpaceAroundAValueDoesNotCount(t *testing.T) {
	t.Parallel()
	c, err := Load([]string{"ROLLCALL_ADMIN_TOKEN= sixteen letters! \r\n", "PORT=8081\n", "ROLLCALL_BIND=\t127.0.0.1", "ROLLCALL_LOG_LEVEL= \n"})
	if err != nil || c.AdminToken != "sixteen letters!" || c.Port != 8081 || c.LogLevel != "info" {
		t.Errorf("%+v, %v", c, err)
	}
}

// A container may have the variables of a server and the variables of the hook.
func TestTheHooksVariablesAreKnown(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../../docker/rollcall.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`ROLLCALL_[A-Z]+(_[A-Z]+)*`).FindAllString(string(script), -1) {
		if _, err := Load([]string{name + "=x"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheHookScriptKnowsTheVariablesOfClients(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../../docker/rollcall.sh")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?s)\nknown='(.*?)'`).FindSubmatch(script)
	if list == nil {
		t.Fatal("the script has no list of variables")
	}
	var got []string
	for name := range strings.FieldsSeq(string(list[1])) {
		got = append(got, "ROLLCALL_"+name)
	}
	want := slices.Clone(clientVariables)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the script knows %v, want %v", got, want)
	}
}

// A container may have the variables of a server, which the hook must not take for its own.
func TestNoVariableOfAServerIsATypoOfAClients(t *testing.T) {
	t.Parallel()
	for f := range reflect.TypeFor[Config]().Fields() {
		for _, known := range clientVariables {
			if name := f.Tag.Get("env"); name != "" && name != known && isTypo(name, known) {
				t.Errorf("%s would be taken for %s", name, known)
			}
		}
	}
}

func TestTheEdgeAloneListensOnPort(t *testing.T) {
	t.Parallel()
	for environ, want := range map[string]int{
		"": 8000, "PORT=5200": 5200, "PORT= ": 8000, "PORT=5200 ROLLCALL_EDGE_PORT=8001": 8001, "ROLLCALL_EDGE_PORT=8001": 8001,
	} {
		if c, err := LoadEdge(strings.Split(environ, " ")); err != nil || c.EdgePort != want {
			t.Errorf("%q: port %d, %v; want %d", environ, c.EdgePort, err, want)
		}
	}
	if c, err := Load([]string{"PORT=5200"}); err != nil || c.EdgePort != 8000 {
		t.Errorf("with the API in the same process the port is %d, %v", c.EdgePort, err)
	}
}
