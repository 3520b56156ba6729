package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rollcall/app/boot"
	"rollcall/app/history"
	"rollcall/app/ownership"
	"rollcall/tests/harness"
)

// shortBuckets has fine buckets of 2 s, so that the test takes less than a minute. A range of 1h consists of them.
var shortBuckets = history.Scale{Fine: 2 * time.Second, Coarse: time.Hour, FineKept: 1800, CoarseKept: 30 * 24}

// runWithShortBuckets runs a role of the program until SIGTERM, and returns the exit code.
func runWithShortBuckets(role string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(ctx, boot.Roles{Web: role == "web", Cron: role == "cron"}, log); err != nil {
		log.Error("run", "err", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, roles boot.Roles, log *slog.Logger) error {
	c, err := boot.Load(os.Environ())
	if err != nil {
		return err
	}
	c.History = shortBuckets
	p, err := boot.New(ctx, c, roles, false, log)
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// historyStack is a stack whose processes have shortBuckets.
type historyStack struct{ *stack }

func (k historyStack) role(role string) *harness.Process {
	k.t.Helper()
	self, err := os.Executable()
	if err != nil {
		k.t.Fatal(err)
	}
	p := harness.StartProcess(k.t, append(slices.Clone(k.Env), asProgram+"=history "+role), self)
	p.Name = role
	return p
}

func (k historyStack) web() (*harness.Process, api) {
	k.t.Helper()
	p := k.role("web")
	a := api{t: k.t, base: "http://" + p.Addr("API")}
	a.ready()
	return p, a
}

// crons starts two cron processes, and returns them by worker id when each has taken half of the shards.
func (k historyStack) crons() map[string]*harness.Process {
	k.t.Helper()
	all := map[string]*harness.Process{}
	for range 2 {
		p := k.role("cron")
		harness.Eventually(k.t, func() error {
			ids, err := k.Redis.HKeys(k.t.Context(), "rollcall:workers").Result()
			for _, id := range ids {
				if all[id] == nil {
					all[id] = p
					return nil
				}
			}
			return fmt.Errorf("the workers are %q, %v; want one more", ids, err) //nolint:errorlint // it may be nil
		})
	}
	harness.Eventually(k.t, func() error {
		owned := map[string]int{}
		for n := range ownership.Shards {
			owned[k.owner(n)]++
		}
		for id := range all {
			if owned[id] != ownership.Shards/2 {
				return fmt.Errorf("worker %s owns %d shards, want half", id, owned[id])
			}
		}
		return nil
	})
	// A worker that calls again has taken the shards of its former call: it counts the instances that join from now on.
	before := k.calls()
	harness.Eventually(k.t, func() error {
		for id, calls := range k.calls() {
			if calls == before[id] {
				return fmt.Errorf("worker %s has not called again", id)
			}
		}
		return nil
	})
	return all
}

// calls returns the counter of each worker, which rises with its calls.
func (k historyStack) calls() map[string]string {
	return k.Redis.HGetAll(k.t.Context(), "rollcall:workers").Val()
}

// owner returns the id of the worker that owns a shard.
func (k historyStack) owner(shard int) string {
	term := k.Redis.HGet(k.t.Context(), "rollcall:shards", strconv.Itoa(shard)).Val() // empty: no owner
	id, _, _ := strings.Cut(term, " ")
	return id
}

// awaitOwner waits until a worker owns all shards.
func (k historyStack) awaitOwner(id string) {
	k.t.Helper()
	harness.Eventually(k.t, func() error {
		for n := range ownership.Shards {
			if is := k.owner(n); is != id {
				return fmt.Errorf("worker %q owns shard %d, want %s", is, n, id)
			}
		}
		return nil
	})
}

type historyTotals struct {
	Availability                             *float64
	Observed                                 float64 `json:"observed_seconds"`
	Unknown                                  float64 `json:"unknown_seconds"`
	Passed, Failed, Flips, Joined, Instances int
}

// down returns the observed time without a healthy instance.
func (h historyTotals) down() time.Duration {
	if h.Availability == nil {
		return 0
	}
	return time.Duration(h.Observed * (1 - *h.Availability) * float64(time.Second))
}

func (h historyTotals) observed() time.Duration {
	return time.Duration(h.Observed * float64(time.Second))
}

type serviceHistory struct {
	Bucket  float64 `json:"bucket_seconds"`
	Total   historyTotals
	Buckets []struct {
		At time.Time
		historyTotals
	}
	Vhosts []struct {
		Host string
		historyTotals
	}
}

func (a api) history(service string) (h serviceHistory) {
	a.t.Helper()
	got := a.call(http.MethodGet, "/v1/services/"+service+"/history?range=1h", nil)
	if err := json.Unmarshal([]byte(got.body), &h); err != nil || got.status != http.StatusOK || h.Bucket != shortBuckets.Fine.Seconds() {
		a.t.Fatalf("history: %d %.300s, %v", got.status, got.body, err)
	}
	return h
}

// isUnknown checks that each bucket between two times is unknown.
func (h serviceHistory) isUnknown(t testing.TB, during string, from, to time.Time) {
	t.Helper()
	buckets := 0
	for _, b := range h.Buckets {
		if b.At.Before(from) || b.At.Add(shortBuckets.Fine).After(to) {
			continue
		}
		buckets++
		if b.Availability != nil || b.Observed != 0 || b.Unknown != h.Bucket {
			t.Errorf("during %s the bucket of %s has %+v, want it unknown", during, b.At.Format(time.TimeOnly), b.historyTotals)
		}
	}
	if buckets == 0 {
		t.Errorf("during %s there is no whole bucket: the test shows nothing", during)
	}
}

// span is a time in which the observer knows that workers ran.
type span struct{ from, to time.Time }

// observer knows how the backend of the only instance of a service answered the probes. The only instance of a
// service is healthy again after its first pass, even if it is flapping.
type observer struct {
	service, id, host string
	backend           *harness.Backend
}

// counts returns how many probes the backend answered with 200 and with 500.
func (o observer) counts() (passed, failed int) {
	for _, v := range o.backend.Probing(o.id) {
		if v.Mode == harness.Answers {
			passed++
		} else {
			failed++
		}
	}
	return passed, failed
}

// within counts the probes in a span.
func (o observer) within(s span) (n int) {
	for _, v := range o.backend.Probing(o.id) {
		if v.At.After(s.from) && v.At.Before(s.to) {
			n++
		}
	}
	return n
}

// down returns how long in the spans the last answer was 500.
func (o observer) down(spans ...span) (d time.Duration) {
	all := o.backend.Probing(o.id)
	for n, v := range all {
		if v.Mode == harness.Answers {
			continue
		}
		until := time.Now()
		if n+1 < len(all) {
			until = all[n+1].At
		}
		for _, s := range spans {
			from, to := v.At, until
			if from.Before(s.from) {
				from = s.from
			}
			if to.After(s.to) {
				to = s.to
			}
			d += max(0, to.Sub(from))
		}
	}
	return d
}

type observers []observer

// set sets the mode of all backends.
func (all observers) set(m harness.Mode) {
	for _, o := range all {
		o.backend.Is(m)
	}
}

// awaitState waits until all instances have a state.
func (all observers) awaitState(a api, state string) {
	a.t.Helper()
	for _, o := range all {
		a.awaitState(o.id, state)
	}
}

// fail makes the backends answer 500 for a time after all instances are unhealthy.
func (all observers) fail(a api, d time.Duration) {
	a.t.Helper()
	all.set(harness.Errors5)
	all.awaitState(a, "unhealthy")
	time.Sleep(d)
	all.set(harness.Answers)
	all.awaitState(a, "healthy")
}

// The probes of the test's instances fall due in the first quietAfter of each second.
const quietAfter = 300 * time.Millisecond

// quiet waits for a time when no probe is in progress. A worker that stops during a probe drops it.
func quiet() {
	for ms := int64(0); ms < 2*quietAfter.Milliseconds() || ms > 2*quietAfter.Milliseconds()+50; ms = time.Now().UnixMilli() % 1000 {
		time.Sleep(5 * time.Millisecond)
	}
}

// nameOwnedBy returns a name with a prefix, in a shard of a worker, whose probes fall due before quietAfter.
func (k historyStack) nameOwnedBy(worker, prefix string) string {
	for n := 0; ; n++ {
		name := fmt.Sprint(prefix, n)
		phase := ownership.Due(ownership.Hash(name), time.Second, ownership.Steady, 0) % 1000
		if k.owner(ownership.ShardOf(name)) == worker && phase < quietAfter.Milliseconds() {
			return name
		}
	}
}

// TestHistoryAgreesWithAnObserver runs two workers on two services that fail for some spells. One worker stops, one
// is killed, Redis is killed and restarted, and for some time no process of Rollcall runs. The backends record
// their answers, and the histories have to agree with them.
func TestHistoryAgreesWithAnObserver(t *testing.T) {
	t.Parallel()
	machine := harness.WatchStalls(t)
	server := harness.StartRedis(t)
	persistent := []string{"--appendonly", "yes", "--appendfsync", "always"}
	server.Restart(t, persistent...)
	k := historyStack{stackOn(t, server)}
	web, a := k.web()
	workers := k.crons()

	// One worker owns the service, the other one the instance: each contributes a part of the history.
	ids := slices.Collect(maps.Keys(workers))
	var all observers
	for n, id := range ids {
		service := k.nameOwnedBy(id, "service-")
		all = append(all, observer{service, k.nameOwnedBy(ids[1-n], "instance-"), service + ".localhost", harness.NewBackend(t)})
	}
	first := span{from: time.Now()}
	for _, o := range all {
		a.register(harness.Registration(o.backend, o.id, o.host, "service", o.service, "interval", "1s", "fall", "1", "rise", "1", "forget", "1h"))
	}
	all.awaitState(a, "healthy")

	// One worker stops, and the other one continues.
	all.fail(a, 5*time.Second)
	quiet()
	workers[ids[0]].Stop()
	k.awaitOwner(ids[1])
	all.fail(a, 2*time.Second)
	quiet()
	workers[ids[1]].Stop()
	first.to = time.Now()
	web.Stop()

	// No process of Rollcall runs.
	time.Sleep(shortBuckets.Fine)
	all.set(harness.Errors5)
	time.Sleep(shortBuckets.Fine)
	all.set(harness.Answers)
	_, a = k.web()
	const handOver = 2 * ownership.Every // with the second that a process takes to exit under the race detector
	for _, o := range all {
		h := a.history(o.service)
		passed, failed := o.counts()
		if h.Total.Passed != passed || h.Total.Failed != failed {
			t.Errorf("%s: %d checks passed and %d failed, want %d and %d", o.service, h.Total.Passed, h.Total.Failed, passed, failed)
		}
		if h.Total.Flips != 4 || h.Total.Joined != 1 || h.Total.Instances != 1 {
			t.Errorf("%s: %+v, want the flips of 2 spells of an instance that joined", o.service, h.Total)
		}
		o.agrees(t, machine, h, handOver, first)
	}
	gap := span{first.to, time.Now()}

	// One of two workers is killed.
	second := span{from: time.Now()}
	workers = k.crons()
	started := time.Since(second.from)
	time.Sleep(shortBuckets.Fine)
	ids = slices.Collect(maps.Keys(workers))
	dies, stays := k.owner(ownership.ShardOf(all[0].service)), ids[0]
	if dies == stays {
		stays = ids[1]
	}
	killed := time.Now()
	workers[dies].Kill()
	k.awaitOwner(stays)
	all.fail(a, 2*time.Second)

	time.Sleep(shortBuckets.Fine) // the time since a worker's last call is unknown: no spell is in it

	// Redis is killed, for longer than a lease.
	second.to = time.Now()
	server.Kill()
	time.Sleep(ownership.Lease)
	all.set(harness.Errors5) // the worker does not probe without a lease
	time.Sleep(shortBuckets.Fine)
	all.set(harness.Answers)
	third := span{from: time.Now()}
	server.Restart(t, persistent...)
	a.ready()
	harness.Eventually(t, func() error {
		for _, o := range all {
			if n := o.within(span{third.from, time.Now()}); n < 2 {
				return fmt.Errorf("%s was probed %d times since Redis is back", o.id, n)
			}
		}
		return nil
	})
	back := time.Since(third.from)
	all.fail(a, 2*time.Second)
	time.Sleep(2 * shortBuckets.Fine)
	quiet()
	workers[stays].Stop()
	third.to = time.Now()

	const (
		unsent   = ownership.Every // a worker sends a bucket within this time after its end
		takeover = ownership.Lease + 2*ownership.Every
	)
	lost := handOver + started + shortBuckets.Fine + unsent + takeover + ownership.Every + back
	for _, o := range all {
		h := a.history(o.service)
		h.isUnknown(t, "the gap", gap.from, gap.to)
		h.isUnknown(t, "the absence of Redis", second.to, third.from)
		o.agrees(t, machine, h, lost, first, second, third)
		passed, failed := o.counts()
		mayLose := o.within(span{killed.Add(-shortBuckets.Fine - unsent - machine.Slack()), killed}) + o.within(span{second.to, third.from})
		if n, want := h.Total.Passed+h.Total.Failed, passed+failed; n > want || n < want-mayLose {
			t.Errorf("%s: the history has %d checks of %d, and may lose %d", o.service, n, want, mayLose)
		}
		t.Logf("%s: the history has %d checks of %d, and may lose %d", o.service, h.Total.Passed+h.Total.Failed, passed+failed, mayLose)
	}
}

// agrees compares a history with the answers of the backend. Workers ran in the spans, and lost is how much of them
// they may not have observed.
func (o observer) agrees(t *testing.T, machine *harness.Stalls, h serviceHistory, lost time.Duration, spans ...span) {
	t.Helper()
	ran := time.Duration(0)
	for _, s := range spans {
		ran += s.to.Sub(s.from)
	}
	down := o.down(spans...)
	all := map[string]historyTotals{o.service: h.Total}
	for _, v := range h.Vhosts {
		all[v.Host] = v.historyTotals
	}
	if len(all) != 2 {
		t.Errorf("the history has the vhosts %+v, want one", h.Vhosts)
	}
	for name, is := range all {
		observed := is.observed()
		tolerance := observed/100 + machine.Slack() - time.Second // Slack is a second on a machine without delays
		t.Logf("%s: %s of %s observed, want at least %s; down for %s, the observer says %s", name, observed, ran, ran-lost, is.down(), down)
		if observed > ran+tolerance || observed < ran-lost-machine.Slack() {
			t.Errorf("%s: %s were observed; workers ran for %s, and may lose %s", name, observed, ran, lost)
		}
		if difference := time.Duration(math.Abs(float64(is.down() - down))); difference > tolerance {
			t.Errorf("%s: down for %s of %s, the observer says %s", name, is.down(), observed, down)
		}
	}
}
