package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"rollcall/tests/harness"
)

// alertmanager is a real Alertmanager with a password. It loses its alerts when it restarts.
type alertmanager struct {
	t   testing.TB
	dir string
	url string
	cmd *exec.Cmd
}

// The bcrypt hash of the password "night shift".
const alertmanagerUsers = "basic_auth_users: {rollcall: '$2b$05$abcdefghijklmnopqrstuuTtJ9VJfPaQPAM5gFsPTvd5k9ZpOF5D.'}\n"

func startAlertmanager(t testing.TB) *alertmanager {
	t.Helper()
	harness.Need(t, "prometheus-alertmanager")
	m := &alertmanager{t: t, dir: t.TempDir(), url: "http://127.0.0.1:" + strconv.Itoa(harness.FreePort(t))}
	for name, text := range map[string]string{
		"config.yml": "route: {receiver: none}\nreceivers: [{name: none}]\n", "web.yml": alertmanagerUsers,
	} {
		if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *alertmanager) start() {
	m.t.Helper()
	m.cmd = exec.Command("prometheus-alertmanager", "--config.file=config.yml", "--web.config.file=web.yml", "--cluster.listen-address=",
		"--storage.path=data", "--web.listen-address="+strings.TrimPrefix(m.url, "http://"))
	m.cmd.Dir = m.dir
	log, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	m.cmd.Stdout, m.cmd.Stderr = log, log
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	harness.Eventually(m.t, func() error {
		_, err := m.firing()
		return err
	})
}

func (m *alertmanager) stop() {
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	_ = m.cmd.Wait()
	if said, err := os.ReadFile(filepath.Join(m.dir, "log")); err == nil && m.t.Failed() {
		m.t.Logf("Alertmanager says:\n%s", said)
	}
}

// firing returns the instances whose alert is firing.
func (m *alertmanager) firing() ([]string, error) {
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.url+"/api/v2/alerts", nil)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth("rollcall", "night shift")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	var alerts []struct{ Labels map[string]string }
	if err := json.NewDecoder(resp.Body).Decode(&alerts); err != nil {
		return nil, err
	}
	var ids []string
	for _, a := range alerts {
		ids = append(ids, a.Labels["instance"])
	}
	slices.Sort(ids)
	return ids, nil
}

// awaits waits until exactly these instances have an alert.
func (m *alertmanager) awaits(want ...string) {
	m.t.Helper()
	harness.Eventually(m.t, func() error {
		got, err := m.firing()
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("alerts for %q fire, want %q", got, want)
		}
		return err
	})
}

// TestAnAlertIsAState adds an Alertmanager while an instance is down, restarts it without its memory, and
// puts the instance in maintenance.
func TestAnAlertIsAState(t *testing.T) {
	t.Parallel()
	m := startAlertmanager(t)
	k := newStack(t)
	k.Process("cron")
	_, a := k.web()
	for n, id := range []string{"w1", "w2"} {
		a.register(form("service", "web", "id", id, "address", fmt.Sprint("127.0.0.1:", n+1), "health", "heartbeat", "fall", "1", "interval", "1h"))
		a.call(http.MethodPost, "/v1/instances/"+id+"/heartbeat", nil)
	}
	sick := func(id, status string) {
		t.Helper()
		if got := a.call(http.MethodPost, "/v1/instances/"+id+"/heartbeat", form("status", status)); got.status != http.StatusNoContent {
			t.Fatal(got)
		}
	}
	sick("w1", "fail")
	hook := []string{"url", m.url + "/api/v2/alerts", "format", "alertmanager"}
	if got := a.call(http.MethodPost, "/v1/webhooks", form(hook...)); got.status != http.StatusFailedDependency {
		t.Fatalf("without the password: %s", got)
	}
	header := "Basic cm9sbGNhbGw6bmlnaHQgc2hpZnQ="
	got := a.call(http.MethodPost, "/v1/webhooks", form(append(hook, "header", "authorization: "+header)...))
	if got.status != http.StatusCreated || strings.Contains(got.body, header) || !strings.Contains(got.body, `"headers":["Authorization"]`) {
		t.Fatalf("with the password: %s, want its name only", got)
	}
	m.awaits("w1")
	sick("w2", "fail")
	m.awaits("w1", "w2")

	m.stop()
	if err := os.RemoveAll(filepath.Join(m.dir, "data")); err != nil {
		t.Fatal(err)
	}
	sick("w2", "pass")
	m.start()
	m.awaits("w1") // within a minute, on an idle machine

	maintain := func(fields ...string) {
		t.Helper()
		if got := a.call(http.MethodPatch, "/v1/instances/w1", form(fields...)); got.status != http.StatusOK {
			t.Fatal(got)
		}
	}
	maintain("maintenance", "true", "for", "1h")
	m.awaits()
	if got := a.call(http.MethodGet, "/v1/instances/w1", nil); !strings.Contains(got.body, `"state":"unhealthy"`) {
		t.Fatal(got)
	}
	maintain("maintenance", "false")
	m.awaits("w1")
	sick("w1", "pass")
	m.awaits()
}
