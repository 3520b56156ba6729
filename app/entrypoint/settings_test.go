//go:build unix

package entrypoint

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func quiet(string, ...any) {}

func TestTheEnvironmentBecomesARegistration(t *testing.T) {
	t.Parallel()
	s := readSettings([]string{
		"ROLLCALL_URL=https://user:pass@rollcall.test/base/", "ROLLCALL_TOKEN= t0ken\n", "ROLLCALL_SERVICE=web", "PORT=8080",
		"ROLLCALL_HOST=a.test, *.b.test\tc.test,,", "ROLLCALL_TAG=blue, two words,", "ROLLCALL_META=a=b, c=d=e ,flag",
		"ROLLCALL_EXPECT=200-299\nall is, well\n", "ROLLCALL_BOOT=b1", "ROLLCALL_ID=web-1", "ROLLCALL_REPLACES=web-0",
		"ROLLCALL_HEALTH=https:/up", "ROLLCALL_HEALTH_HOST=a.test", "ROLLCALL_HEALTH_METHOD=HEAD", "ROLLCALL_HEALTH_HEADER=Authorization: Bearer t0ken\nX-Probe: a, b",
		"ROLLCALL_TLS_SKIP_VERIFY=true", "ROLLCALL_TLS_SERVER_NAME=b.test", "ROLLCALL_INTERVAL=3s", "ROLLCALL_FAIL_OPEN=false", "ROLLCALL_HOLD=7s",
	}, quiet)
	form := map[string][]string{
		"service": {"web"}, "id": {"web-1"}, "boot": {"b1"}, "replaces": {"web-0"}, "host": {"a.test", "*.b.test\tc.test"},
		"tag": {"blue", "two words"}, "meta.a": {"b"}, "meta.c": {"d=e"}, "meta.flag": {""}, "expect": {"200-299", "all is, well"},
		"health": {"https:/up"}, "health_host": {"a.test"}, "health_method": {"HEAD"}, "health_header": {"Authorization: Bearer t0ken", "X-Probe: a, b"}, "tls_skip_verify": {"true"}, "tls_server_name": {"b.test"}, "interval": {"3s"}, "fail_open": {"false"},
	}
	if diff := cmp.Diff(form, map[string][]string(s.form)); diff != "" {
		t.Errorf("the form (-want +got):\n%s", diff)
	}
	got := fmt.Sprint(s.url, " ", s.shownURL, " ", s.token, " ", s.port, " ", s.drainPeriod, " ", s.reassert, " ", s.interval, " ", s.healthTimeout)
	if want := "https://user:pass@rollcall.test/base https://rollcall.test/base t0ken 8080 7s 10s 3s 3s"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAHealthCommandMakesItAHeartbeat(t *testing.T) {
	t.Parallel()
	s := readSettings([]string{"ROLLCALL_SERVICE=web", "ROLLCALL_HEALTH=/up", "ROLLCALL_HEALTH_CMD=true"}, quiet)
	if got := s.form.Get("health"); got != "heartbeat" {
		t.Errorf("health is %q", got)
	}
}

func TestABadDurationOfOursIsSaidAndReplaced(t *testing.T) {
	t.Parallel()
	var said []string
	s := readSettings([]string{"ROLLCALL_SERVICE=web", "ROLLCALL_HOLD=5", "ROLLCALL_REASSERT=-1s", "ROLLCALL_INTERVAL=often"}, func(format string, args ...any) {
		said = append(said, fmt.Sprintf(format, args...))
	})
	want := []string{
		"ROLLCALL_HOLD is '5', which is not a duration such as 5s: using 5s",
		"ROLLCALL_REASSERT is '-1s', which is not a duration such as 5s: using 10s",
	}
	if diff := cmp.Diff(want, said); diff != "" || s.drainPeriod != 5*time.Second || s.reassert != 10*time.Second {
		t.Errorf("hold %s, reassert %s, said (-want +got):\n%s", s.drainPeriod, s.reassert, diff)
	}
}

func TestEveryStartGetsABootNonce(t *testing.T) {
	t.Parallel()
	boot := func() string { return readSettings([]string{"ROLLCALL_SERVICE=web"}, quiet).form.Get("boot") }
	if a, b := boot(), boot(); a == b || a == "" {
		t.Errorf("got %q and %q", a, b)
	}
}

func TestTheAddressIsGivenOrWhatThePlatformIsSureOf(t *testing.T) {
	t.Parallel()
	all := environmentMap{}
	for _, step := range []struct{ variable, value, want string }{
		{"PORT", "80", ""},
		{"POD_IP", "10.1.1.1", "10.1.1.1"},
		{"NOMAD_ADDR_db", "10.2.2.2:1", "10.2.2.2:1"},
		{"NOMAD_ADDR_web", "10.2.2.2:2", "10.1.1.1"}, // which of the two is anybody's guess
		{"NOMAD_ADDR_http", "10.2.2.2:3", "10.2.2.2:3"},
		{"NOMAD_HOST_ADDR_web", "10.2.2.2:4", "10.2.2.2:4"},
		{"FLY_PRIVATE_IP", "fdaa::3", "fdaa::3"},
		{"ROLLCALL_ADDRESS", "192.0.2.1:5", "192.0.2.1:5"},
	} {
		all[step.variable] = step.value
		if got := all.address(); got != step.want {
			t.Errorf("with %v: got %q, want %q", maps.Clone(all), got, step.want)
		}
	}
}

func TestHasPortTellsAPortFromAnIPv6Address(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"": false, "host": false, "host:80": true, "10.0.0.1": false, "10.0.0.1:80": true, "::1": false, "[::1]": false, "[::1]:80": true, "fdaa::3": false,
	} {
		if got := hasPort(address); got != want {
			t.Errorf("hasPort(%q) = %t", address, got)
		}
	}
}

func TestTheDefaultIDIsOneThatTheAPITakes(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	host = strings.ToLower(host)
	for _, c := range []struct{ service, address, port, want string }{
		{"web", "", "80", "web-" + host + "-80"},
		{"web", "10.0.0.1:8080", "80", "web-" + host + "-8080"},
		{"web", "10.0.0.1", "80", "web-" + host + "-80"},
		{"web", "", "", "web-" + host},
		{"Web App/é", "", "80", "web-app----" + host + "-80"},
	} {
		if got := defaultID(c.service, c.address, c.port); got != c.want {
			t.Errorf("defaultID(%q, %q, %q) = %q, want %q", c.service, c.address, c.port, got, c.want)
		}
	}
}

func TestANoteIsPlainText(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"fine":                               "fine",
		"a \"b\" \\ c\td\x1b[0m":             "a 'b' / c?d?[0m",
		"für\xff\u202eb":                     "für\ufffd?b",
		strings.Repeat("x", 199) + "ü":       strings.Repeat("x", 199),
		strings.Repeat("ü", 100) + "too far": strings.Repeat("ü", 100),
	} {
		if got := noteOf(line); got != want {
			t.Errorf("noteOf(%q) = %q, want %q", line, got, want)
		}
	}
	var l lastBytes
	fmt.Fprint(&l, strings.Repeat("much\n", 5000), "first\nlast line\n\n")
	if got := l.line(); got != "last line" || len(l.kept) > 9000 {
		t.Errorf("the last line is %q, of %d bytes kept", got, len(l.kept))
	}
}
