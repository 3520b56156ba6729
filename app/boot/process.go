package boot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/diagnose"
	"rollcall/app/history"
	"rollcall/app/outbound"
	"rollcall/app/probe"
	"rollcall/app/redisstore"
	"rollcall/app/registry"
	"rollcall/app/replica"
	"rollcall/handlers"
	"rollcall/handlers/agents"
	"rollcall/hipache"
	"rollcall/hipache/edge"
	"rollcall/jobs"
	"rollcall/jobs/schedule"
	"rollcall/migrations"
)

// shutdownGrace bounds the time that running requests have to end at shutdown. It is longer than the default drain period,
// because the caller of a drain waits for the answer.
const shutdownGrace = 10 * time.Second

// Roles are the roles of a process.
type Roles struct {
	Web  bool // answers the API
	Cron bool // probes, makes time-driven changes and keeps the lists
	Edge bool // routes end users' requests
	DNS  bool // answers DNS queries
}

// Process has the parts of a process. New binds the listeners, so that the addresses are known before Run serves.
type Process struct {
	log      *slog.Logger
	config   Config
	rdb      redis.UniversalClient
	store    *redisstore.Store
	vhosts   *redisstore.Vhosts
	history  *redisstore.History
	registry *registry.Registry
	tokens   *auth.Tokens
	replica  *replica.Replica
	prober   app.Prober
	worker   *jobs.Worker // nil without the role
	self     diagnose.Process
	metrics  *metrics
	proxy    hipache.Keys

	embedded *embedded
	web      net.Listener // nil without the role
	ops      net.Listener // nil unless configured
	edge     net.Listener
	dns      *dnsSockets
	roles    Roles
	closers  []func()
}

// New connects to Redis, checks the schema, connects the parts and binds the listeners. Without a Redis URL it starts the
// embedded Redis if mayEmbed is set.
func New(ctx context.Context, c Config, roles Roles, mayEmbed bool, log *slog.Logger) (p *Process, err error) {
	if c.RedisURL == "" && !mayEmbed {
		return nil, errors.New("config: REDIS_URL is not set: set it to the Redis that all processes share, or run rollcall dev or rollcall serve, which bring one")
	}
	p, err = open(ctx, c, awaitRedis, log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	p.roles, p.self = roles, describe(roles, p.store.Now())
	return p, p.prepare(ctx)
}

// prepare checks that the process can serve, and binds its listeners.
func (p *Process) prepare(ctx context.Context) error {
	if err := p.checkSchema(ctx); err != nil {
		return err
	}
	if p.roles.Web {
		if err := p.guarded(ctx); err != nil {
			return err
		}
	}
	return p.bind()
}

// bind binds the listeners of the process's roles.
func (p *Process) bind() (err error) {
	if p.roles.Web {
		if p.web, err = p.listen("PORT", p.config.Port); err != nil {
			return err
		}
	}
	if p.config.MetricsPort != nil && p.roles != (Roles{}) {
		if p.ops, err = p.listen("ROLLCALL_METRICS_PORT", *p.config.MetricsPort); err != nil {
			return err
		}
	}
	if p.roles.Edge {
		if p.edge, err = p.listen("ROLLCALL_EDGE_PORT", p.config.EdgePort); err != nil {
			return err
		}
	}
	if p.roles.DNS {
		return p.listenDNS()
	}
	return nil
}

// onCommit writes a line of the log for a change. The process that makes a change logs it.
func (p *Process) onCommit(ctx context.Context, s app.Step) {
	p.metrics.onCommit(s, p.store.Now())
	e := s.Event
	p.log.InfoContext(ctx, "instance changed", "event", string(e.Kind), "instance", e.Instance, "service", e.Service,
		"from", string(e.From), "to", string(e.To), "reason", e.Reason, "actor", e.Actor)
}

// open connects to Redis, or starts the embedded one without a URL, and makes the parts that use it.
func open(ctx context.Context, c Config, patience time.Duration, log *slog.Logger) (p *Process, err error) {
	c.History = cmp.Or(c.History, history.Default)
	p = &Process{log: log, config: c, proxy: hipache.Keys{Prefix: c.HipachePrefix}, metrics: newMetrics()}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	raw := c.RedisURL
	if raw == "" {
		if p.embedded, err = startEmbedded(ctx, c.EmbeddedRedisPort); err != nil {
			return p, err
		}
		p.closers = append(p.closers, p.embedded.close)
		raw = p.embedded.url()
		log.WarnContext(ctx, "REDIS_URL is not set: the registry is in memory and ends with this process", "redis", raw)
	}
	if p.rdb, err = connect(ctx, raw, patience, log); err != nil {
		return p, err
	}
	p.closers = append(p.closers, func() { _ = p.rdb.Close() })
	p.rdb.AddHook(redisTimer{p.metrics.redisLatency})
	p.store = redisstore.New(p.rdb, redisstore.Options{Prefix: c.Prefix, Hipache: p.proxy, Settle: c.Settle, Limit: c.MaxInstances, Backends: c.MaxBackends, Log: log})
	if err := p.store.SyncClock(ctx); err != nil {
		return p, err
	}
	p.vhosts, p.history = p.store.Vhosts(), p.store.History(c.History)
	p.replica = replica.New()
	p.registry = registry.New(p.store, p.replica, p.store.Now, c.DrainPeriod, p.onCommit)
	p.tokens = auth.NewTokens(p.store.Tokens(), c.AdminToken, c.needsToken(), p.store.Now, p.tokenChanged)
	prober := probe.New(probe.Options{Allow: c.mayProbe, Now: p.store.Now})
	p.closers = append(p.closers, prober.Close)
	p.prober = measuredProber{prober, p.metrics}
	p.metrics.reads(p.store, p.rdb, p.replica)
	return p, nil
}

// checkSchema brings the keys to the schema of this program, or waits while another process does. It returns
// migrations.ErrNewer if the keys belong to a newer program.
func (p *Process) checkSchema(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, awaitRedis)
	defer cancel()
	for {
		v, err := migrations.Version(ctx, p.rdb, p.config.Prefix)
		if err != nil || v == migrations.Latest {
			return wrapSchema(err)
		}
		from, to, err := migrations.Run(ctx, p.rdb, p.config.Prefix)
		if err == nil {
			p.log.InfoContext(ctx, "schema migrated", "from", from, "to", to)
		}
		if !errors.Is(err, migrations.ErrBusy) {
			return wrapSchema(err)
		}
		if app.Sleep(ctx, schemaEvery/10) != nil {
			return wrapSchema(err)
		}
	}
}

func wrapSchema(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("schema: %w", err)
}

// schemaEvery is the time between two reads of the schema version.
const schemaEvery = time.Second

// watchSchema returns an error when a newer program has raised the schema with a step that is not additive: this process must
// not write any more. It gives this program's schema to a registry that was emptied or restored from an old copy.
func (p *Process) watchSchema(ctx context.Context) error {
	logged := false
	for app.Sleep(ctx, schemaEvery) == nil {
		err := p.checkSchema(ctx)
		if !errors.Is(err, migrations.ErrNewer) {
			continue
		}
		goesOn, failed := migrations.MayGoOn(ctx, p.rdb, p.config.Prefix)
		if failed == nil && !goesOn {
			return err
		}
		if goesOn && !logged {
			p.log.WarnContext(ctx, "a newer version has migrated the keys; this process goes on, and would not start again", "err", err)
			logged = true
		}
	}
	return nil
}

// workerChanged writes an event about the worker of this process.
func (p *Process) workerChanged(ctx context.Context, kind app.EventKind, reason string) {
	host, _ := os.Hostname() // the event has no host name then
	e := app.Event{Kind: kind, At: p.store.Now(), Subject: fmt.Sprintf("%s-%d", host, os.Getpid()), Reason: reason}
	p.metrics.workerChanged(kind)
	p.log.WarnContext(ctx, "worker changed", "event", e.Kind, "worker", e.Subject, "reason", reason)
	if _, err := p.store.AppendEvent(ctx, e); err != nil {
		p.log.ErrorContext(ctx, "an event could not be written", "event", e.Kind, "err", err)
	}
}

// guarded reads the tokens. It returns an error if other machines could call without a token.
func (p *Process) guarded(ctx context.Context) error {
	if err := p.tokens.Refresh(ctx); err != nil {
		return err
	}
	if bind := p.config.Bind; !bind.IsLoopback() && !p.tokens.HasAdmin() {
		return fmt.Errorf("config: ROLLCALL_BIND (%s) is not loopback, and there is no token to call with: set ROLLCALL_ADMIN_TOKEN, "+
			"or create one with rollcall token create --scope admin on this Redis while it is loopback", bind)
	}
	return nil
}

func (p *Process) tokenChanged(ctx context.Context, e app.Event) {
	p.log.InfoContext(ctx, "token changed", "event", e.Kind, "token", e.Subject, "reason", e.Reason, "actor", e.Actor)
}

func (p *Process) listen(variable string, port int) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(p.config.Bind.String(), strconv.Itoa(port))) //nolint:noctx // binding does not wait
	if err != nil {
		return nil, fmt.Errorf("%s: %w (set %s to another port, or to 0 for any)", variable, err, variable)
	}
	p.closers = append(p.closers, func() { _ = l.Close() })
	return l, nil
}

// Close releases the connections and listeners of New. Run calls it.
func (p *Process) Close() {
	for _, c := range slices.Backward(p.closers) {
		c()
	}
	p.closers = nil
}

// WebAddr is the address of the API; empty without the role.
func (p *Process) WebAddr() string { return addrOf(p.web) }

// EdgeAddr is the address of the edge; empty without the role.
func (p *Process) EdgeAddr() string { return addrOf(p.edge) }

// RedisAddr returns the address of the embedded Redis, or "" without an embedded Redis.
func (p *Process) RedisAddr() string {
	if p.embedded == nil {
		return ""
	}
	return p.embedded.server.Addr()
}

func addrOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// Run does the work of the process's roles until the context is over or a part fails, and returns when all parts have
// ended.
func (p *Process) Run(ctx context.Context) error {
	defer p.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	p.start(func(name string, part func(context.Context) error) {
		parts.Go(func() {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	})
	parts.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// start starts the parts of the process's roles.
func (p *Process) start(run func(name string, part func(context.Context) error)) {
	every := func(interval time.Duration, do func(context.Context) error) {
		run("timer", func(ctx context.Context) error { repeat(ctx, interval, do); return nil })
	}
	every(time.Minute, p.store.SyncClock)
	every(returnEvery, new(memory).check)
	if p.roles.Web || p.roles.Cron || p.roles.DNS {
		run("replica", func(ctx context.Context) error { p.store.Follow(ctx, p.replica); return nil })
		run("schema", p.watchSchema)
	}
	if p.roles.Web || p.roles.Cron {
		run("announcement", p.announce)
	}
	if p.roles.Web {
		relaxGC()
		run("web", p.serveWeb)
		every(time.Second, func(ctx context.Context) error { return errors.Join(p.store.Alive(ctx), p.tokens.Refresh(ctx)) })
	}
	if p.roles.Cron {
		p.cron(run)
	}
	if p.roles.Edge {
		run("edge", p.serveEdge)
	}
	if p.roles.DNS {
		run("dns", p.serveDNS)
	}
	if p.ops != nil {
		run("metrics", p.serveMetrics)
	}
}

// relaxGC makes garbage collections half as frequent. They are an eighth of the CPU of registrations. GOGC of the environment
// has precedence.
func relaxGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
}

// repeat calls do once an interval, until the context is over. The calls are aligned to the interval like the jobs, because an
// idle process pays for each time that it wakes up.
func repeat(ctx context.Context, interval time.Duration, do func(context.Context) error) {
	for {
		_ = do(ctx) // the replica and readiness report a Redis that is out of reach
		select {
		case <-time.After(time.Until(time.Now().Truncate(interval).Add(interval))):
		case <-ctx.Done():
			return
		}
	}
}

// workOnce runs a worker once, on a replica of its own: the documents that it reads now have the streaks that earlier runs
// have written, and a replica that follows events does not.
func (p *Process) workOnce(ctx context.Context) error {
	fresh := replica.New()
	following, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { p.store.Follow(following, fresh) })
	defer done.Wait()
	defer stop()
	for until := time.Now().Add(askRedis); ; {
		_, err := fresh.Age(time.Now())
		if err == nil {
			return p.newWorker(jobs.WorkerID(), fresh).Once(ctx)
		}
		if time.Now().After(until) {
			return err
		}
		if err := app.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// newWorker returns a worker on a replica. Its id must be new.
func (p *Process) newWorker(id string, on *replica.Replica) *jobs.Worker {
	return jobs.NewWorker(jobs.WorkerOptions{
		ID: id, Shares: p.store, Peers: p.store, Prober: p.prober, Registry: p.registry, Replica: on, Now: p.store.Now, Log: p.log,
		Vhosts: p.vhosts, SettleTime: p.config.Settle, Statistics: p.history, Scale: p.config.History,
		Changed: p.workerChanged, Late: func(d time.Duration) { p.metrics.probeLate.Observe(d.Seconds()) },
	})
}

// cron starts the worker, the jobs, and the answers to questions of other processes.
func (p *Process) cron(run func(string, func(context.Context) error)) {
	p.worker = p.newWorker(p.self.Worker, p.replica)
	p.metrics.owns(p.worker.Stats)
	work := p.worker.Jobs()
	if p.config.HcheckerPing {
		ping := hipache.Ping{Redis: p.rdb}
		work = append(work, beacon(hipache.PingEvery, p.worker.Swept, p.store.Now, ping.Renew))
		run("beacon", func(ctx context.Context) error {
			<-ctx.Done()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			return ping.Clear(ctx)
		})
	}
	runner := schedule.NewRunner(p.log, work...)
	run("jobs", func(ctx context.Context) error { runner.Run(ctx); return nil })
	run("worker", func(ctx context.Context) error { p.worker.Work(ctx); return nil })
	run("questions", func(ctx context.Context) error {
		p.store.Answer(ctx, redisstore.Asked{
			Shares: func() { _ = p.worker.Tick(ctx) }, // the job logs the error
			Flush:  p.worker.Asked,
			Probe:  func(id string) { p.worker.ProbeNow(id, true) },

			Question: p.worker.Question,
			Opinion:  p.worker.Opinion,
		})
		return nil
	})
	p.deliver(run)
	run("announcements", func(ctx context.Context) error {
		hipache.Listen(ctx, p.rdb, func() { p.worker.Listening(ctx) }, func(a hipache.Announcement) { p.announced(ctx, a) })
		return nil
	})
}

// onDemand returns every job for one run.
func (p *Process) onDemand() *schedule.Runner {
	return schedule.NewRunner(p.log,
		schedule.Job{Name: "probe", Timeout: time.Minute, Run: p.workOnce},
		schedule.Job{Name: "expire", Timeout: time.Minute, Run: p.workOnce}, // one run of a worker does all three
		schedule.Job{Name: "compact", Timeout: time.Minute, Run: p.workOnce},
		schedule.Job{Name: "deliver", Timeout: time.Minute, Run: p.courier().Once},
		schedule.Job{Name: "compare", Timeout: time.Minute, Run: p.compare},
		schedule.Job{Name: "reconcile", Timeout: time.Minute, Run: p.reconcile},
	)
}

// compare compares the lists of all vhosts, of any owner.
func (p *Process) compare(ctx context.Context) error {
	found, err := p.store.Vhosts().Compare(ctx, app.Everything, math.MaxInt)
	jobs.LogRepairs(ctx, p.log, found.Repairs)
	return err
}

// reconcile compares all instances and vhosts, of any owner.
func (p *Process) reconcile(ctx context.Context) error {
	repairs, err := p.store.Reconcile(ctx, app.Everything)
	jobs.LogRepairs(ctx, p.log, repairs)
	return err
}

// announced handles an announcement of a proxy. The owner of the vhost repairs its marks, and the owner of the instance probes
// it at once. It is not logged, because a proxy announces a backend with each failed request; a change that
// follows is logged.
func (p *Process) announced(ctx context.Context, a hipache.Announcement) {
	repaired, failing, err := p.vhosts.Announced(ctx, a, p.worker.Owns)
	switch {
	case err != nil:
		p.log.WarnContext(ctx, "an announcement was lost", "host", a.Host, "backend", a.URL, "err", err)
	case repaired:
		p.metrics.marksMended.Inc()
		p.log.DebugContext(ctx, "a proxy's mark hit another backend and was taken back", "host", a.Host, "backend", a.URL, "position", a.Position)
	case failing != "" && p.worker.ProbeNow(failing, true):
		p.metrics.earlyProbes.Inc()
		p.log.DebugContext(ctx, "a proxy announced a failing backend: probing it now", "host", a.Host, "instance", failing)
	}
}

func (p *Process) serveWeb(ctx context.Context) error {
	api := &handlers.API{
		Registry: p.registry, Replica: p.replica, Store: p.store, History: p.history, Tokens: p.tokens, Webhooks: p.webhooks(), Jobs: p.onDemand(),
		Agents:  agents.Reports{Store: p.store, Now: p.store.Now},
		Metrics: p.metrics.handler(), Served: p.metrics.served, Serving: ctx, Now: p.store.Now, Log: p.log,
		Settings: handlers.Settings{
			FrontendKey: p.proxy.Frontend, DrainPeriod: p.config.DrainPeriod, TrustedProxies: p.config.trusted(),
			Rules:        app.Rules{MaxHosts: p.config.MaxHosts, Allow: outbound.Permitted(p.config.mayProbe)},
			RegisterRate: p.config.RegisterRate, MaxBody: p.config.MaxBody, Version: Version(),
		},
	}
	p.log.InfoContext(ctx, "API is up", "addr", p.WebAddr())
	return p.serve(ctx, p.web, api.Handler()) //nolint:contextcheck // its calls have contexts of their own
}

// serveMetrics answers Prometheus and health checks, in processes without the API.
func (p *Process) serveMetrics(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", p.metrics.handler())
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	p.log.InfoContext(ctx, "metrics are up", "addr", addrOf(p.ops))
	return p.serve(ctx, p.ops, mux)
}

// serve answers requests until the context ends, then gives running requests time to end.
func (p *Process) serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       75 * time.Second,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	err := server.Shutdown(grace)
	<-served //nolint:errcheck // http.ErrServerClosed
	if err != nil {
		return errors.Join(err, server.Close())
	}
	return nil
}

func (p *Process) serveEdge(ctx context.Context) error {
	e, err := edge.New(edge.Options{
		Redis: p.rdb, Keys: p.proxy, Log: p.log, Debug: p.config.Bind.IsLoopback(), Grace: shutdownGrace,
		DialTimeout: p.config.EdgeConnect, Timeout: p.config.EdgeTimeout,
	})
	if err != nil {
		return err
	}
	defer e.Close()
	p.log.InfoContext(ctx, "edge is up", "addr", p.EdgeAddr())
	return e.Serve(ctx, p.edge)
}
