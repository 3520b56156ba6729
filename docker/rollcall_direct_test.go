//go:build linux

package docker_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"rollcall/tests/harness"
)

func TestNoProxySettingAffectsTheCallsOfTheHook(t *testing.T) {
	t.Parallel()
	dead := "http://127.0.0.1:" + strconv.Itoa(harness.FreePort(t))
	home := t.TempDir()
	for name, text := range map[string]string{".curlrc": "proxy = " + dead + "\n", ".wgetrc": "use_proxy = on\nhttp_proxy = " + dead + "\n"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := env{"HOME": home, "CURL_HOME": home, "WGETRC": filepath.Join(home, ".wgetrc"), "ROLLCALL_HEALTH_CMD": "true", "NO_PROXY": "", "no_proxy": ""}
	for _, name := range []string{"http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		e[name] = dead
	}
	everyHook(t, func(t *testing.T, h hook) {
		p := h.start(t, shared(t), e, appServes)
		p.awaitState("healthy")
		environ, err := os.ReadFile("/proc/" + p.line("pid ") + "/environ")
		for _, name := range []string{"http_proxy", "HTTPS_PROXY"} {
			if err != nil || !bytes.Contains(environ, []byte("\x00"+name+"="+dead+"\x00")) {
				t.Errorf("%v, or the command does not have %s", err, name)
			}
		}
		p.signal("TERM")
		p.ends(0)
		p.says("rollcall: drained %s", p.id)
	})
}

func TestAPasswordInTheURLIsSentAndNeverShown(t *testing.T) {
	t.Parallel()
	everyHook(t, func(t *testing.T, h hook) {
		const password = "s3cret-passw0rd"
		var mu sync.Mutex
		var got, shown string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			_, got, _ = r.BasicAuth()
			commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, path := range commands {
				if line, _ := os.ReadFile(path); bytes.Contains(line, []byte(password)) {
					shown = string(line)
				}
			}
			_, _ = w.Write([]byte(`{"id":"x","address":"there","boot":"b1"}`))
		}))
		t.Cleanup(server.Close)
		url := strings.Replace(server.URL, "://", "://me:"+password+"@", 1)
		p := h.start(t, &registry{url: url}, env{"ROLLCALL_ID": "x", "ROLLCALL_BOOT": "b1"}, appServes)
		if h.name == "ash-wget" {
			p.eventually("it refuses", func() bool { return p.said("install curl or GNU wget: running without Rollcall") })
		} else {
			p.says("rollcall: registered x at there")
			mu.Lock()
			if got != password {
				t.Errorf("the password is %q", got)
			}
			mu.Unlock()
		}
		environ, err := os.ReadFile("/proc/" + p.line("pid ") + "/environ")
		if err != nil || bytes.Contains(environ, []byte(password)) || !bytes.Contains(environ, []byte("\x00ROLLCALL_URL="+server.URL+"\x00")) {
			t.Errorf("%v, or the environment of the command has the password, or no URL: %q", err, environ)
		}
		p.up()
		p.signal("TERM")
		p.ends(0)
		if p.said(password) {
			t.Errorf("it shows the password:\n%s", p.output())
		}
		mu.Lock()
		defer mu.Unlock()
		if shown != "" {
			t.Errorf("the password is on a command line: %q", shown)
		}
	})
}

func TestAMisspeltVariableIsNamedAndTheCommandRuns(t *testing.T) {
	t.Parallel()
	everyShell(t, func(t *testing.T, h hook) {
		p := h.start(t, shared(t), env{
			"ROLLCALL_HOSTS": "a.test", "ROLLCALL_HLOD": "1s", "ROLLCALL_HEALTH_CND": "true", "ROLLCALL_ADMIN_TOKEN": "x", "ROLLCALL_SERVICE_HOST": "10.0.0.1", "ROLLCALL_TEST_X": "",
		}, appServes)
		p.awaitState("healthy")
		for given, meant := range map[string]string{"HOSTS": "HOST", "HLOD": "HOLD", "HEALTH_CND": "HEALTH_CMD"} {
			p.says("rollcall: there is no variable ROLLCALL_%s; did you mean ROLLCALL_%s?", given, meant)
		}
		if n := strings.Count(p.output(), "did you mean"); n != 3 {
			t.Errorf("it names %d variables, want 3:\n%s", n, p.output())
		}
		p.signal("TERM")
		p.ends(0)
	})
}
