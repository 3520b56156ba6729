package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"rollcall/app/ownership"
	"rollcall/tests/harness"
)

// TestRestartsGoUnnoticed restarts cron and web, by SIGTERM and by kill -9, while streaks run. No list
// changes, no event is written, no streak is lost, and each instance is probed at least every two
// intervals.
func TestRestartsGoUnnoticed(t *testing.T) {
	t.Parallel()
	const interval = 2 * time.Second
	machine := harness.WatchStalls(t)
	k := newStack(t)
	l := watch(t, k.Server.Addr())
	cron := k.Process("cron")
	web, a := k.web()
	edge := k.edge()
	const host = "restart.localhost"
	well, sick, waiting := harness.NewBackend(t), harness.NewBackend(t), harness.NewBackend(t)
	a.register(harness.Registration(well, "well", host, "interval", interval.String()))
	a.register(harness.Registration(sick, "sick", host, "interval", interval.String(), "fall", "100"))
	a.register(harness.Registration(waiting, "waiting", host, "interval", interval.String(), "rise", "100", "grace", "10m"))
	a.awaitState("well", "healthy")
	a.awaitState("sick", "healthy")
	awaitPick(t, k.Redis, host, well.URL(), sick.URL())
	sick.Is(harness.Errors5) // a status that no proxy marks
	streak := func(id string, above int) {
		t.Helper()
		harness.Eventually(t, func() error {
			if now := a.instance(id).Streak; now <= above {
				return fmt.Errorf("the streak of %s is %d, want more than %d", id, now, above)
			}
			return nil
		})
	}
	streak("sick", 0)
	streak("waiting", 0)

	keys := []string{"frontend:" + host, "dead:" + host, "rollcall:vhost:" + host, "rollcall:hosts", "rollcall:settling", "rollcall:events"}
	look := func() (dump []string) {
		t.Helper()
		for _, key := range keys {
			d, _ := k.Redis.Dump(t.Context(), key).Result() // empty for a missing key
			dump = append(dump, d)
		}
		return dump
	}
	before := look()
	start := l.sync(k)
	var killed time.Time
	var absence time.Duration // how long no worker ran
	again := func(end func()) {
		t.Helper()
		began := time.Now()
		end()
		ended := time.Now()
		cron = k.Process("cron")
		absence = max(absence, ended.Sub(began)+l.awaitLook(t, ended))
	}
	through := newVisitor(edge)
	for n, restart := range []func(){
		func() { again(cron.Stop) },
		func() { web.Stop(); web, a = k.web() },
		func() { killed = time.Now(); again(cron.Kill) },
		func() { web.Stop(); again(cron.Stop); web, a = k.web() },
	} {
		first := a.instance("sick").Streak
		other := a.instance("waiting").Streak
		restart()
		for _, id := range []string{"well", "sick", "waiting"} {
			if i := a.instance(id); i.State != map[string]string{"well": "healthy", "sick": "healthy", "waiting": "starting"}[id] {
				t.Errorf("after restart %d %s is %s", n, id, i.State)
			}
		}
		streak("sick", first+1) // the streak continues
		streak("waiting", other+1)
		if status, body, err := through.visit(t.Context(), host, ""); err != nil || status != http.StatusOK && status != http.StatusInternalServerError {
			t.Errorf("after restart %d a visitor gets %d %.100s, %v; want an answer of one of the backends", n, status, body, err)
		}
	}
	after := look()
	for n, key := range keys {
		if before[n] != after[n] {
			t.Errorf("%s was written", key)
		}
	}
	end := l.sync(k)
	for _, problem := range end.problems {
		t.Error(problem)
	}
	if end.writes > start.writes || end.events > start.events {
		t.Errorf("%d writes of lists and %d events, want none", end.writes-start.writes, end.events-start.events)
	}
	for id, b := range map[string]*harness.Backend{"well": well, "sick": sick, "waiting": waiting} {
		times := append(b.Probed(id), time.Now())
		for n := range times[1:] {
			allowed := max(2*interval, interval+absence)
			if times[n].Before(killed) && times[n+1].After(killed) {
				allowed = max(allowed, interval+ownership.Lease+2*ownership.Every) // it did not give its shards back
			}
			allowed += machine.Slack()
			if gap := times[n+1].Sub(times[n]); gap > allowed {
				t.Errorf("%s was not probed for %s, want at most %s with an interval of %s", id, gap, allowed, interval)
			}
		}
		t.Logf("%s was probed %d times, with gaps of up to %s; nobody was there for %s", id, len(times)-1, longest(times), absence)
	}
}

func longest(times []time.Time) (gap time.Duration) {
	for n := range times[1:] {
		gap = max(gap, times[n+1].Sub(times[n]))
	}
	return gap.Round(time.Millisecond)
}

// TestStopLetsCallsEnd stops a web process during a drain period.
func TestStopLetsCallsEnd(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	k.Process("cron")
	web, a := k.web()
	_, other := k.web()
	b := harness.NewBackend(t)
	a.register(harness.Registration(b, "leaves", "leaves.localhost"))
	a.awaitState("leaves", "healthy")
	answer := make(chan string, 1)
	go func() {
		got, err := a.try(http.MethodPost, "/v1/instances/leaves/drain?hold=5s", nil)
		answer <- fmt.Sprint(got.status, " ", err)
	}()
	other.awaitState("leaves", "draining")
	web.Stop()
	if got := <-answer; !strings.HasPrefix(got, "200 <nil>") {
		t.Errorf("the drain that was waiting got %s", got)
	}
	other.awaitGone("leaves")
}
