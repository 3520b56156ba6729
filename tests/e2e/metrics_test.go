package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// watched is a backend that records the first request after each change of its behaviour.
type watched struct {
	*httptest.Server
	mu    sync.Mutex
	sick  bool
	asked time.Time
}

func newWatched(t *testing.T) *watched {
	w := &watched{}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.asked.IsZero() {
			w.asked = time.Now()
		}
		if w.sick {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(w.Close)
	return w
}

func (w *watched) becomes(sick bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sick, w.asked = sick, time.Time{}
}

func (w *watched) since() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.asked)
}

// TestMetricsSayWhatAnOutsiderSees compares the durations that a real Prometheus scrapes with the
// observations of the backends and of the proxy's list.
func TestMetricsSayWhatAnOutsiderSees(t *testing.T) {
	t.Parallel()
	needPrometheus(t)
	p := boots(t, harness.StartRedis(t), "serve")
	scrape := strings.TrimPrefix(p.base, "http://")
	base := startPrometheus(t, fmt.Sprintf("- job_name: rollcall\n  scrape_interval: 1s\n  static_configs: [{targets: [%q]}]\n", scrape))

	const n = 8
	const busy = 0.5 // s: two processes on a busy machine see the same change at different times
	var toRoute, toRemove time.Duration
	steady := newWatched(t) // so that no other backend is the last routable one
	p.register("service", "web", "address", strings.TrimPrefix(steady.URL, "http://"), "host", "m.test", "health", "/")
	p.awaitRouted("m.test", steady.URL, true)
	var all sync.WaitGroup
	var mu sync.Mutex
	for range n {
		all.Go(func() {
			b := newWatched(t)
			p.register("service", "web", "address", strings.TrimPrefix(b.URL, "http://"), "host", "m.test", "health", "/", "fall", "3")
			p.awaitRouted("m.test", b.URL, true)
			up := b.since()
			b.becomes(true)
			p.awaitRouted("m.test", b.URL, false)
			down := b.since()
			mu.Lock()
			defer mu.Unlock()
			toRoute, toRemove = toRoute+up, toRemove+down
		})
	}
	all.Wait()
	for name, seen := range map[string]time.Duration{"time_to_route": toRoute, "time_to_remove": toRemove} {
		want, mean := seen.Seconds()/n, 0.0
		harness.Await(t, "Prometheus has scraped it", func() error {
			q := fmt.Sprintf("rollcall_%[1]s_seconds_sum / rollcall_%[1]s_seconds_count and rollcall_%[1]s_seconds_count >= %d", name, n)
			var err error
			mean, err = instantQuery(base, q)
			return err
		})
		if math.Abs(mean-want) > 0.1*want+busy {
			t.Errorf("%s is %.3f s on average, and was %.3f s from outside", name, mean, want)
		}
	}
	if up, err := instantQuery(base, "up"); err != nil || up != 1 {
		t.Errorf("up is %v, %v", up, err)
	}
}

// awaitRouted waits until a backend is routed, or no longer routed: listed and not marked.
func (p *process) awaitRouted(host, url string, want bool) {
	for end := time.Now().Add(harness.Patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		pipe := p.rdb.Pipeline()
		list, dead := pipe.LRange(p.t.Context(), p.proxy.Frontend(host), 1, -1), pipe.SMembers(p.t.Context(), p.proxy.Dead(host))
		if _, err := pipe.Exec(p.t.Context()); err != nil {
			p.t.Error(err)
			return
		}
		slot := slices.Index(list.Val(), url)
		if want == (slot >= 0 && !slices.Contains(dead.Val(), fmt.Sprint(slot))) {
			return
		}
	}
	p.t.Errorf("%s: routed to %s is not %t within %s", host, url, want, harness.Patience)
}

// instantQuery queries one number from a Prometheus.
func instantQuery(base, query string) (value float64, err error) {
	resp, err := http.Get(base + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := jsonFrom(resp.Body, &answer); err != nil {
		return 0, err
	}
	if len(answer.Data.Result) != 1 {
		return 0, fmt.Errorf("%s: %d results", query, len(answer.Data.Result))
	}
	_, err = fmt.Sscan(fmt.Sprint(answer.Data.Result[0].Value[1]), &value)
	return value, err
}

// scrape reads the metrics of every role after some work, with one of two instances unhealthy.
func scrape(t *testing.T) (text string) {
	p := boots(t, harness.StartRedis(t), "all", "ROLLCALL_METRICS_PORT=0")
	b := newWatched(t)
	p.register("service", "web", "address", strings.TrimPrefix(b.URL, "http://"), "host", "m.test", "health", "/")
	p.awaitRouted("m.test", b.URL, true)
	b.becomes(true)
	p.register("service", "web", "address", "127.0.0.1:1", "health", "none", "host", "m.test")
	if a := p.call(http.MethodPut, "/v1/agents/host-1", form("containers", "2", "refused.shop-db-1", "label rollcall.port is missing")); a.status != http.StatusNoContent {
		t.Fatalf("the report of an agent: %d %s", a.status, a.body)
	}
	harness.Await(t, "one is unhealthy", func() error {
		if text = p.get("/metrics", http.StatusOK).body; !strings.Contains(text, "\nrollcall_instances{state=\"unhealthy\"} 1\n") {
			return errors.New(text)
		}
		return nil
	})
	return text
}

func TestMetricsAreAsPrometheusWantsThem(t *testing.T) {
	t.Parallel()
	needPrometheus(t)
	text := scrape(t)
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if said, err := check.CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("promtool: %v\n%s", err, said)
	}
	for _, want := range []string{`rollcall_agent_refused_containers{node="host-1"} 1`, `rollcall_agent_last_sync_timestamp_seconds{node="host-1"} 1`} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("there is no line %s", want)
		}
	}
}

// TestAlertFires has a real Prometheus evaluate the rules, without their waiting times, on the metrics of a service and a
// vhost whose only instance fails.
func TestAlertFires(t *testing.T) {
	t.Parallel()
	needPrometheus(t)
	rules, err := os.ReadFile("../../docker/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "alerts.yaml")
	if err := os.WriteFile(file, regexp.MustCompile(`(?m)^ +for: .*\n`).ReplaceAll(rules, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	p := boots(t, harness.StartRedis(t), "serve")
	b := newWatched(t)
	p.register("service", "web", "address", strings.TrimPrefix(b.URL, "http://"), "host", "m.test", "health", "/", "interval", "300ms")
	p.awaitRouted("m.test", b.URL, true)
	base := startPrometheus(t, fmt.Sprintf("- job_name: rollcall\n  scrape_interval: 1s\n  static_configs: [{targets: [%q]}]\nrule_files: [%q]\n",
		strings.TrimPrefix(p.base, "http://"), file), "evaluation_interval: 1s")
	value := func(query string, want float64) {
		t.Helper()
		harness.Await(t, query, func() error {
			got, err := instantQuery(base, query)
			if err == nil && got != want {
				err = fmt.Errorf("%s is %v, want %v", query, got, want)
			}
			return err
		})
	}
	const firing = `count(ALERTS{alertname=~"RollcallServiceDown|RollcallVhostDown", alertstate="firing"}) or vector(0)`
	value(`sum(rollcall_service_healthy{service="web"}) + sum(rollcall_vhost_routable{vhost="m.test"})`, 2)
	value(firing, 0)
	b.becomes(true)
	value(`ALERTS{alertname="RollcallServiceDown", service="web", alertstate="firing"}`, 1)
	value(`ALERTS{alertname="RollcallVhostDown", vhost="m.test", alertstate="firing"}`, 1)
	b.becomes(false)
	value(firing, 0)
	value(`rollcall_service_flips_total{service="web"}`, 2)
}

// TestDashboardShowsMetricsThatExist compares the dashboard and the alert rules with a real scrape.
func TestDashboardShowsMetricsThatExist(t *testing.T) {
	t.Parallel()
	file, err := os.Open("../../docker/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil || !json.Valid(text) {
		t.Fatalf("docker/grafana.json is no JSON: %v", err)
	}
	rules, err := os.ReadFile("../../docker/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, rules...)
	exists := map[string]bool{}
	for line := range strings.Lines(scrape(t)) {
		if name, _, found := strings.Cut(line, " "); found && !strings.HasPrefix(line, "#") {
			name, _, _ = strings.Cut(name, "{")
			exists[name] = true
		} else if typed := strings.Fields(line); len(typed) > 2 { // also metrics without a value
			for _, part := range []string{"", "_bucket", "_count"} {
				exists[typed[2]+part] = true
			}
		}
	}
	shown := regexp.MustCompile(`\b(rollcall|go|process)_[a-z0-9_]+`).FindAllString(string(text), -1)
	if len(shown) < 10 {
		t.Fatalf("the dashboard and the alerts name %d metrics", len(shown))
	}
	for _, name := range shown {
		if !exists[name] {
			t.Errorf("the dashboard or an alert names %s; there is no such metric", name)
		}
	}
}
