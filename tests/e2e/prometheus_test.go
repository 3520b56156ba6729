package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"rollcall/tests/harness"
)

// TestPrometheusDiscovers runs a real Prometheus. While Redis is away it keeps its targets.
func TestPrometheusDiscovers(t *testing.T) {
	t.Parallel()
	needPrometheus(t)
	server := harness.StartRedis(t)
	server.Restart(t, "--appendonly", "yes")
	p := boots(t, server, "serve")
	p.register("service", "web", "address", "127.0.0.1:1", "id", "w1", "health", "none", "tag", "blue", "meta.team", "sales")
	p.register("service", "db", "address", "127.0.0.1:2", "id", "d1", "health", "none")
	p.register("service", "web", "address", "127.0.0.1:3", "id", "sick", "interval", "1h") // not checked yet, and then refused
	base := startPrometheus(t, fmt.Sprintf(`
- job_name: rollcall
  http_sd_configs: [{url: %q, refresh_interval: 1s}]
  relabel_configs:
  - {source_labels: [__meta_rollcall_service], target_label: service}
  - {source_labels: [__meta_rollcall_instance], target_label: id}
  - {source_labels: [__meta_rollcall_meta_team], target_label: team}
`, p.base+"/v1/sd/prometheus"))

	targets := func() ([]string, error) {
		resp, err := http.Get(base + "/api/v1/targets?state=active")
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		var list struct {
			Data struct {
				ActiveTargets []struct{ Labels map[string]string }
			}
		}
		if err := jsonFrom(resp.Body, &list); err != nil {
			return nil, err
		}
		var all []string
		for _, target := range list.Data.ActiveTargets {
			l := target.Labels
			all = append(all, strings.TrimSpace(l["service"]+" "+l["id"]+" "+l["instance"]+" "+l["team"]))
		}
		slices.Sort(all)
		return all, nil
	}
	await := func(want ...string) {
		t.Helper()
		harness.Await(t, "Prometheus has its targets", func() error {
			got, err := targets()
			if err == nil && !slices.Equal(got, want) {
				err = fmt.Errorf("it has %q, want %q", got, want)
			}
			return err
		})
	}
	const web, db = "web w1 127.0.0.1:1 sales", "db d1 127.0.0.1:2"
	await(db, web)
	p.call(http.MethodPatch, "/v1/instances/d1", form("maintenance", "true", "for", "1h"))
	await(web)
	p.call(http.MethodPatch, "/v1/instances/d1", form("maintenance", "false"))
	await(db, web)

	server.Stop()
	harness.Await(t, "the answer is 503", func() error {
		a, err := p.try(t.Context(), http.MethodGet, "/v1/sd/prometheus", nil)
		if err == nil && (a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "") {
			err = errors.New(a.String())
		}
		return err
	})
	failures := func() (n float64) {
		resp, err := http.Get(base + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return metric(resp.Body, "prometheus_sd_http_failures_total")
	}
	before := failures()
	harness.Await(t, "Prometheus has asked again", func() error {
		if failures() < before+2 {
			return errors.New("not often enough")
		}
		return nil
	})
	await(db, web)

	server.Restart(t, "--appendonly", "yes")
	harness.Await(t, "it can be registered with again", func() error {
		a := p.call(http.MethodPost, "/v1/register", form("service", "web", "address", "127.0.0.1:4", "id", "w2", "health", "none"))
		if a.status != http.StatusCreated {
			return errors.New(a.String())
		}
		return nil
	})
	await(db, web, "web w2 127.0.0.1:4")
}

func needPrometheus(t *testing.T) {
	t.Helper()
	for _, program := range []string{"prometheus", "promtool"} { // of one package
		harness.Need(t, program)
	}
}

// startPrometheus runs a Prometheus with scrape configs and global settings, and returns its address.
func startPrometheus(t *testing.T, scrapes string, global ...string) string {
	t.Helper()
	dir := t.TempDir()
	config := "global: {" + strings.Join(append(global, "scrape_interval: 1h"), ", ") + "}\nscrape_configs:\n" + scrapes
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // it takes no port 0
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if said, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("Prometheus says:\n%s", said)
		}
	})
	harness.Await(t, "Prometheus is ready", func() error {
		resp, err := http.Get("http://" + addr + "/-/ready")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	return "http://" + addr
}
