package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// halfDies is a server of many addresses; those with an odd last byte can die together.
type halfDies struct{ dead atomic.Bool }

func (h *halfDies) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok && h.dead.Load() && at.IP.To4()[3]%2 == 1 {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// TestAVhostWithManyBackendsOfWhichHalfDie has one vhost with 2,000 backends. Half of them die at the same time, while
// the machine is busy. It logs how long that takes, and the run times of scripts.
func TestAVhostWithManyBackendsOfWhichHalfDie(t *testing.T) {
	t.Parallel()
	const host, promised = "many.chaos", 2*time.Second + 200*time.Millisecond + 2*time.Second
	backends := 2000
	if !all {
		backends = 400
	}
	machine := harness.WatchStalls(t)
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	var handler halfDies
	server := &http.Server{Handler: &handler}
	go server.Serve(l) //nolint:errcheck // it ends when it is closed
	t.Cleanup(func() { _ = server.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	ip := func(n int) string { return fmt.Sprintf("127.67.%d.%d", n/250, 1+n%250) }

	redis := harness.StartRedis(t)
	redis.Restart(t, persistent...)
	w := &world{t: t, Stack: harness.NewStack(t, redis, "ROLLCALL_REGISTER_RATE=0", "ROLLCALL_SETTLE=2s"), ends: t.Context(), webs: make([]*harness.Process, 1), bases: make([]string, 1)}
	w.startWeb(0)
	crons := []*harness.Process{w.Process("cron"), w.Process("cron")}
	for first := 0; first < backends; first += 100 {
		var forms []map[string]any
		for n := first; n < first+100; n++ {
			forms = append(forms, map[string]any{
				"id": fmt.Sprint("many", n), "service": "many", "address": net.JoinHostPort(ip(n), port), "host": host, "health": "/",
			})
		}
		text, _ := json.Marshal(forms) // strings always have a JSON form
		resp, err := http.Post(w.bases[0]+"/v1/register", "application/json", strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusMultiStatus {
			t.Fatalf("registering a hundred: %s", resp.Status)
		}
	}
	routed := func(want int) func() error {
		return func() error {
			pick, list, err := harness.Routed(t.Context(), w.Redis, host)
			if err == nil && len(pick) != want {
				err = fmt.Errorf("%d of %d backends get traffic, want %d", len(pick), len(list), want)
			}
			return err
		}
	}
	harness.Eventually(t, routed(backends))
	lines := func() (n int) {
		for _, p := range append(crons, w.webs...) {
			n += strings.Count(p.Log.String(), "\n")
		}
		return n
	}
	before := lines()
	w.do("CONFIG", "RESETSTAT")
	w.spin() // the machine is busy
	died := time.Now()
	handler.dead.Store(true)
	harness.Eventually(t, routed(backends/2))
	t.Logf("all %d were out after %s, %s is promised; %s is allowed for the machine", backends/2, time.Since(died), promised, machine.Slack())
	harness.Eventually(t, func() error {
		_, list, err := harness.Routed(t.Context(), w.Redis, host)
		if err == nil && len(list) != backends/2 {
			err = fmt.Errorf("%d backends are listed", len(list))
		}
		return err
	})
	for line := range strings.Lines(w.Redis.Info(t.Context(), "latencystats").Val()) {
		if strings.HasPrefix(line, "latency_percentiles_usec_eval") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if n := lines() - before; n > backends/2+backends/10 {
		t.Errorf("%d lines were logged, want one for each of %d changes and few others", n, backends/2)
	}
	w.audited()
}

// spin keeps a processor busy until the test ends.
func (w *world) spin() {
	ctx, stop := context.WithCancel(w.t.Context())
	w.running.Go(func() {
		for ctx.Err() == nil { // without a pause
			continue
		}
	})
	w.t.Cleanup(func() {
		stop()
		w.running.Wait()
	})
}
