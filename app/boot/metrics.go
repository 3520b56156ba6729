package boot

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/redisstore"
	"rollcall/app/replica"
	"rollcall/jobs"
)

// metrics are the Prometheus metrics of one process.
type metrics struct {
	registry *prometheus.Registry

	probes       *prometheus.CounterVec
	probeTime    *prometheus.HistogramVec
	probeLate    prometheus.Histogram
	toRoute      prometheus.Histogram
	toRemove     prometheus.Histogram
	events       *prometheus.CounterVec
	marksMended  prometheus.Counter
	earlyProbes  prometheus.Counter
	deliveries   *prometheus.CounterVec
	suspended    prometheus.Gauge
	benched      prometheus.Gauge // the same under its former name
	namesFail    prometheus.Gauge
	requests     *prometheus.HistogramVec
	redisLatency *prometheus.HistogramVec
}

var (
	fast = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}
	slow = []float64{.05, .1, .2, .3, .5, .75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 20, 60}
)

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_" + name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rollcall_" + name, Help: help, Buckets: buckets}, labels)
		m.registry.MustRegister(h)
		return h
	}
	m.probes = counter("probes_total", "Probes by kind and what they found.", "kind", "outcome")
	m.probeTime = histogram("probe_duration_seconds", "How long probes took.", fast, "kind")
	m.probeLate = histogram("probe_lateness_seconds", "How long after they were due probes began.", fast).With(nil).(prometheus.Histogram)
	m.toRoute = histogram("time_to_route_seconds", "From the first passing probe to being routed.", slow).With(nil).(prometheus.Histogram)
	m.toRemove = histogram("time_to_remove_seconds", "From the first failing probe to not being routed any more.", slow).With(nil).(prometheus.Histogram)
	m.events = counter("events_total", "Events by kind, in the process that wrote them.", "kind")
	m.marksMended = counter("marks_repaired_total", "Marks of proxies that hit another backend than the failing one, and were taken back.").With(nil)
	m.earlyProbes = counter("announced_probes_total", "Probes brought forward because a proxy announced a failing backend.").With(nil)
	m.requests = histogram("http_request_duration_seconds", "Answers of the API; long polls and streams are as long as they are open.", fast, "method", "route", "status")
	m.redisLatency = histogram("redis_command_duration_seconds", "Calls to Redis, reads that wait for news left out.", fast, "command")
	m.deliveries = counter("webhook_deliveries_total", "Attempts to deliver to webhooks.", "outcome")
	for _, outcome := range []string{"delivered", "failed"} {
		m.deliveries.WithLabelValues(outcome) // so that the label exists from the start
	}
	m.suspended = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rollcall_worker_suspended", Help: "1 while the worker holds back removals: too few instances on other hosts answer it.",
	})
	m.benched = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rollcall_worker_benched", Help: "The former name of rollcall_worker_suspended.",
	})
	m.namesFail = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rollcall_name_server_failed", Help: "1 while the worker's name server does not look up the names of instances.",
	})
	m.registry.MustRegister(
		m.suspended, m.benched, m.namesFail, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(),
	)
	return m
}

// buildInfo returns a gauge with the program's version.
func buildInfo() prometheus.Collector {
	b := built()
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rollcall_build_info", Help: "What this program was built from; always 1.",
		ConstLabels: prometheus.Labels{"version": cmp.Or(b.version, "unknown"), "revision": cmp.Or(b.revision, "unknown"), "goversion": runtime.Version()},
	})
	g.Set(1)
	return g
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// reads adds the counters of the store, the Redis client and the replica.
func (m *metrics) reads(store *redisstore.Store, rdb redis.UniversalClient, rep *replica.Replica) {
	stats := store.Stats()
	count := func(name, help string, read func() float64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "rollcall_" + name, Help: help}, read))
	}
	count("commits_total", "Changes of the registry.", func() float64 { return float64(stats.Commits.Load()) })
	count("commit_conflicts_total", "Changes that were decided on what was no longer so, and were not made.",
		func() float64 { return float64(stats.Refused.Load()) })
	count("lists_written_total", "Lists of vhosts that had to be written.", func() float64 { return float64(stats.ListsWritten.Load()) })
	count("lists_unchanged_total", "Lists of vhosts that were looked at and were as they should be.",
		func() float64 { return float64(stats.ListsKept.Load()) })
	count("redis_pool_timeouts_total", "Calls that found no free connection to Redis in time.",
		func() float64 { return float64(rdb.PoolStats().Timeouts) })
	count("redis_pool_misses_total", "Calls that had to open a connection to Redis.",
		func() float64 { return float64(rdb.PoolStats().Misses) })
	m.registry.MustRegister(agentReports{store}, population{rep, rdb}, newSeries(rep, "service", servicesOf), newSeries(rep, "vhost", (*replica.Compact).Hosts))
}

// owns adds the counters of a worker.
func (m *metrics) owns(stats func() jobs.WorkerStats) {
	gauge := func(name, help string, read func(jobs.WorkerStats) float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rollcall_" + name, Help: help}, func() float64 { return read(stats()) }))
	}
	gauge("worker_shards", "Shards of the registry that this worker owns, of 256.", func(s jobs.WorkerStats) float64 { return float64(s.Shards) })
	gauge("worker_instances", "Instances that this worker owns.", func(s jobs.WorkerStats) float64 { return float64(s.Instances) })
	gauge("workers", "Workers that share the registry, as this one knows.", func(s jobs.WorkerStats) float64 { return float64(s.Workers) })
	gauge("worker_disputed", "Instances that other workers reach and this one does not: it does not remove them.", func(s jobs.WorkerStats) float64 { return float64(s.Disputed) })
	gauge("worker_flush_seconds", "How long the last flush of results took.", func(s jobs.WorkerStats) float64 { return s.Flush.Seconds() })
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "rollcall_shards_lost_total", Help: "Shards that this worker gave to other workers, or lost to them.",
	}, func() float64 { return float64(stats().HandOvers) }))
}

// population collects the numbers of instances, services and vhosts.
type population struct {
	replica *replica.Replica
	rdb     redis.UniversalClient
}

var (
	instancesDesc   = prometheus.NewDesc("rollcall_instances", "Instances by state; only from processes that serve the API.", []string{"state"}, nil)
	connectionsDesc = prometheus.NewDesc("rollcall_redis_pool_connections", "Connections to Redis.", []string{"state"}, nil)
)

// Describe implements prometheus.Collector.
func (p population) Describe(to chan<- *prometheus.Desc) {
	to <- instancesDesc
	to <- connectionsDesc
}

// Collect implements prometheus.Collector.
func (p population) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, state string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), state)
	}
	pool := p.rdb.PoolStats()
	gauge(connectionsDesc, int(pool.IdleConns), "idle")
	gauge(connectionsDesc, int(pool.TotalConns-pool.IdleConns), "busy")
	if _, err := p.replica.Age(time.Now()); err != nil {
		return // a missing number is better than an old one
	}
	count := map[app.State]int{app.Starting: 0, app.Healthy: 0, app.Unhealthy: 0, app.Failed: 0, app.Draining: 0}
	for i := range p.replica.All() {
		count[i.State]++
	}
	for state, n := range count {
		gauge(instancesDesc, n, string(state))
	}
}

// onCommit counts an event, and measures the time from the probe to the change.
func (m *metrics) onCommit(s app.Step, now time.Time) {
	m.events.WithLabelValues(string(s.Event.Kind)).Inc()
	if s.Was.State == s.Is.State || s.Is.StreakAt.IsZero() {
		return
	}
	took := now.Sub(s.Is.StreakAt).Seconds()
	switch {
	case s.Is.State == app.Healthy:
		m.toRoute.Observe(took)
	case s.Is.State == app.Unhealthy && s.Is.Last.Code != app.NoHeartbeat:
		m.toRemove.Observe(took)
	}
}

// workerChanged counts the events of this process's worker.
func (m *metrics) workerChanged(kind app.EventKind) {
	switch kind { //nolint:exhaustive // other kinds are not about a worker
	case app.EventBenched:
		m.suspended.Set(1)
		m.benched.Set(1)
	case app.EventBack:
		m.suspended.Set(0)
		m.benched.Set(0)
	case app.EventNamesFail:
		m.namesFail.Set(1)
	case app.EventNamesBack:
		m.namesFail.Set(0)
	}
}

func (m *metrics) served(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}

// measuredProber counts probes.
type measuredProber struct {
	app.Prober
	metrics *metrics
}

// Probe implements app.Prober.
func (p measuredProber) Probe(ctx context.Context, i app.Instance) app.Result {
	r := p.Prober.Probe(ctx, i)
	if ctx.Err() != nil {
		return r // an inconclusive result is not counted
	}
	p.metrics.probes.WithLabelValues(string(i.Check.Kind), outcome(r)).Inc()
	p.metrics.probeTime.WithLabelValues(string(i.Check.Kind)).Observe(r.Latency.Seconds())
	return r
}

// outcome returns a result as a label with a bounded number of values.
func outcome(r app.Result) string {
	switch {
	case r.Passed:
		return "passed"
	case r.Code >= 100:
		return "status"
	}
	return strings.ReplaceAll(r.Code.String(), " ", "_")
}

// redisTimer measures calls to Redis.
type redisTimer struct{ latency *prometheus.HistogramVec }

// DialHook implements redis.Hook.
func (t redisTimer) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (t redisTimer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		t.latency.WithLabelValues(cmd.Name()).Observe(time.Since(began).Seconds())
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (t redisTimer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		if cmds[0].Name() != "xread" { // XREAD waits for events
			t.latency.WithLabelValues("pipeline").Observe(time.Since(began).Seconds())
		}
		return err
	}
}
