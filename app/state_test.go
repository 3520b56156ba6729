package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rollcall/app"
)

// epoch is when these tests begin; results follow a second apart.
var epoch = time.UnixMilli(1_700_000_000_000)

var states = []app.State{app.Starting, app.Healthy, app.Unhealthy, app.Failed, app.Draining, app.Gone}

// letter is how a state is written in a trace.
func letter(s app.State) string { return strings.ToUpper(string(s[:1])) }

func instance(kind app.Kind, rise, fall int, s app.State) app.Instance {
	i := app.Instance{ID: "web-1", Service: "web", Address: "10.0.0.7:8080", Check: app.DefaultCheck(kind), State: s}
	i.Check.Rise, i.Check.Fall = rise, fall
	return i
}

// result returns a pass for + and a failure for -.
func result(sign rune, at time.Time) app.Result {
	if sign == '+' {
		return app.Result{At: at, Passed: true, Code: 200}
	}
	return app.Result{At: at, Code: app.Refused}
}

// observe returns the instance after results, and its state after each. It forgets each
// fall: the wait of a flapping instance has tests of its own.
func observe(i app.Instance, results string) (after app.Instance, trace string) {
	for n, sign := range results {
		at := epoch.Add(time.Duration(n+1) * time.Second)
		i = i.Observe(result(sign, at), at)
		i.Falls = 0
		trace += letter(i.State)
	}
	return i, trace
}

func TestObserve(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rise, fall int
		from       app.State
		results    string
		want       string // the state after each result
	}{
		{1, 1, app.Starting, "--+-+", "SSHUH"},
		{1, 1, app.Healthy, "+-+-+", "HUHUH"},
		{1, 1, app.Unhealthy, "-+-", "UHU"},
		{1, 1, app.Failed, "-+-", "FHU"},

		{1, 2, app.Starting, "+-+--+", "HHHHUH"},
		{1, 2, app.Healthy, "-+-+--", "HHHHHU"}, // a pass in between starts the count again
		{1, 3, app.Healthy, "--+--+---", "HHHHHHHHU"},
		{2, 1, app.Starting, "+-++-", "SSSHU"}, // and so does a failure
		{3, 1, app.Starting, "++-++-+++-", "SSSSSSSSHU"},

		{2, 2, app.Starting, "++--++", "SHHUUH"},
		{2, 2, app.Healthy, "--", "HU"},
		{2, 2, app.Healthy, "-++-", "HHHH"},
		{2, 2, app.Unhealthy, "+-++", "UUUH"},
		{2, 2, app.Failed, "+-+--++", "FFFFFFH"},

		{2, 3, app.Healthy, "--+---+-++", "HHHHHUUUUH"},
		{3, 2, app.Healthy, "-+--++-+++", "HHHUUUUUUH"},

		{3, 3, app.Starting, "++-+++--+---", "SSSSSHHHHHHU"},
		{3, 3, app.Healthy, "---+++", "HHUUUH"},
		{3, 3, app.Healthy, "--+--+--+", "HHHHHHHHH"},
		{3, 3, app.Failed, "---++-+++", "FFFFFFFFH"},

		{1, 1, app.Draining, "++--++", "DDDDDD"},
		{3, 3, app.Draining, "------", "DDDDDD"},
		{1, 1, app.Gone, "++--", "GGGG"},
	} {
		if _, got := observe(instance(app.HTTP, c.rise, c.fall, c.from), c.results); got != c.want {
			t.Errorf("rise %d, fall %d: %s after %s goes %s, want %s", c.rise, c.fall, c.from, c.results, got, c.want)
		}
	}
}

// TestObserveCounts compares with the plainest way to say the same: a run of equal
// results, as long as the threshold, decides.
func TestObserveCounts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rise, fall := rapid.IntRange(1, 4).Draw(t, "rise"), rapid.IntRange(1, 4).Draw(t, "fall")
		results := rapid.StringMatching(`[+-]{0,40}`).Draw(t, "results")

		want, state, run, last := "", "S", 0, ' '
		for _, sign := range results {
			if sign != last {
				run, last = 0, sign
			}
			run++
			switch {
			case state != "H" && sign == '+' && run >= rise:
				state = "H"
			case state == "H" && sign == '-' && run >= fall:
				state = "U"
			}
			want += state
		}
		if _, got := observe(instance(app.HTTP, rise, fall, app.Starting), results); got != want {
			t.Errorf("rise %d, fall %d: after %s goes %s, want %s", rise, fall, results, got, want)
		}
	})
}

func TestAFailureStreakBrokenByAPassStartsAgain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		fall := rapid.IntRange(1, 5).Draw(t, "fall")
		results := rapid.StringMatching(fmt.Sprintf(`(-{0,%d}\+){0,20}`, fall-1)).Draw(t, "results")
		after, _ := observe(instance(app.HTTP, 2, fall, app.Healthy), results)
		if !after.Routable() || after.Streak != 0 {
			t.Errorf("%s with a streak of %d after %s, which never fails %d times running", after.State, after.Streak, results, fall)
		}
	})
}

func TestFewerFailuresThanFallLeaveAnInstanceHealthy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		fall := rapid.IntRange(1, 5).Draw(t, "fall")
		results := rapid.StringMatching(`[+-]{0,40}`).Draw(t, "results")
		after, trace := observe(instance(app.HTTP, 1, fall, app.Healthy), results)
		if failed := strings.Contains(results, strings.Repeat("-", fall)); failed != strings.Contains(trace, "U") {
			t.Errorf("fall %d: after %s goes %s", fall, results, trace)
		}
		if after.Routable() && after.Streak >= fall {
			t.Errorf("healthy with %d failures running after %s, fall is %d", after.Streak, results, fall)
		}
	})
}

func TestAHealthyInstanceIsUnhealthyAfterExactlyFallFailures(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rise, fall := rapid.IntRange(1, 5).Draw(t, "rise"), rapid.IntRange(1, 5).Draw(t, "fall")
		from := rapid.SampledFrom([]app.State{app.Starting, app.Healthy, app.Unhealthy, app.Failed}).Draw(t, "from")
		history := rapid.StringMatching(`[+-]{0,20}`).Draw(t, "history") + strings.Repeat("+", rise)
		i, _ := observe(instance(app.HTTP, rise, fall, from), history)
		want := strings.Repeat("H", fall-1) + "U"
		if _, got := observe(i, strings.Repeat("-", fall)); got != want {
			t.Errorf("%s, then %s: %d failures go %s, want %s", from, history, fall, got, want)
		}
	})
}

// live applies steps to an instance: + and - are results, x is the end of a
// deadline, d an order to drain and . the end.
func live(i app.Instance, steps string) app.Instance {
	for n, step := range steps {
		at := epoch.Add(time.Duration(n+1) * time.Second)
		switch step {
		case 'x':
			i = i.Expire(at)
		case 'd':
			i = i.Drain(time.Second, at)
		case '.':
			i = i.Remove(at)
		default:
			i = i.Observe(result(step, at), at)
		}
	}
	return i
}

// fallen returns an instance that has become unhealthy n times, a minute after each
// recovery, and the time of the last fall.
func fallen(n int) (app.Instance, time.Time) {
	i, now := instance(app.HTTP, 2, 2, app.Healthy), epoch
	i.ChangedAt = epoch
	for range n {
		now = now.Add(time.Minute)
		i = i.EndWait(now.Add(-time.Minute)).Observe(result('-', now), now).Observe(result('-', now), now)
	}
	return i, now
}

// passes has an instance pass once a second until it is healthy, and returns after how
// many seconds that was.
func passes(i app.Instance, from time.Time) (app.Instance, time.Duration) {
	for now := from; ; now = now.Add(time.Second) {
		if i = i.Observe(result('+', now), now); i.State == app.Healthy || now.Sub(from) > time.Hour {
			return i, now.Sub(from)
		}
	}
}

func TestAFlappingInstanceHasToPassForLongerEachTime(t *testing.T) {
	t.Parallel()
	for n, want := range []time.Duration{
		1: time.Second, // no wait: two passes
		2: 10 * time.Second, 3: 20 * time.Second, 4: 40 * time.Second, 5: 80 * time.Second, 6: 160 * time.Second,
		7: 5 * time.Minute, 8: 5 * time.Minute, 100: 5 * time.Minute,
	} {
		if want == 0 {
			continue
		}
		i, now := fallen(n)
		if i.State != app.Unhealthy || i.Falls != n || i.Flapping(now) != (n > 1) {
			t.Fatalf("fallen %d times: %s with %d falls, flapping %t", n, i.State, i.Falls, i.Flapping(now))
		}
		if _, took := passes(i, now); took != want {
			t.Errorf("fallen %d times: healthy after passing for %s, want %s", n, took, want)
		}
	}
}

func TestAFailureStartsTheWaitAgain(t *testing.T) {
	t.Parallel()
	i, now := fallen(3)
	for range 100 {
		for range 19 {
			now = now.Add(time.Second)
			i = i.Observe(result('+', now), now)
		}
		if i.State != app.Unhealthy || !i.Waits() {
			t.Fatalf("%s after 19 s of passes, waits %t; want unhealthy for 20 s", i.State, i.Waits())
		}
		if after, ends := i.StateTimeout(); !ends || after < i.Wait()+i.Check.Forget || !i.Alive(result('+', now)) {
			t.Fatalf("an instance that passes is forgotten after %s", after)
		}
		now = now.Add(time.Second)
		i = i.Observe(result('-', now), now)
	}
	if _, took := passes(i, now.Add(time.Second)); took != 20*time.Second {
		t.Errorf("healthy after passing for %s, want 20 s: it never was in between", took)
	}
}

func TestCalmAndAStartEndFlapping(t *testing.T) {
	t.Parallel()
	i, now := fallen(5)
	i, took := passes(i, now)
	now = now.Add(took)
	if !i.Flapping(now) || i.Flapping(now.Add(app.CalmAfter)) {
		t.Errorf("healthy again: flapping at once %t, after %s %t; want only at once", i.Flapping(now), app.CalmAfter, i.Flapping(now.Add(app.CalmAfter)))
	}
	at := now.Add(app.CalmAfter)
	if calm := i.Observe(result('-', at), at).Observe(result('-', at), at); calm.Falls != 1 {
		t.Errorf("after a calm while a fall is number %d, want 1", calm.Falls)
	}
	if anew := i.Begin(now); anew.Falls != 0 {
		t.Errorf("a new start has %d falls, want none", anew.Falls)
	}
}

func TestDrainingNeverBecomesHealthy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]app.Kind{app.HTTP, app.Heartbeat, app.None}).Draw(t, "kind")
		steps := "d" + rapid.StringMatching(`[+xd.-]{0,20}`).Draw(t, "steps")
		from := instance(kind, rapid.IntRange(1, 3).Draw(t, "rise"), rapid.IntRange(1, 3).Draw(t, "fall"), "")
		from = live(from.Begin(epoch), rapid.StringMatching(`[+x-]{0,10}`).Draw(t, "before"))
		is := live(from, steps)
		want := app.Draining
		if from.State == app.Gone || strings.ContainsAny(steps, "x.") {
			want = app.Gone
		}
		if is.State != want || is.Routable() || is.Probed() {
			t.Errorf("%s instance, then %s: %s; want %s, not probed", from.State, steps, is.State, want)
		}
	})
}

func TestNoInstanceIsRoutableBeforeItsFirstPass(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]app.Kind{app.HTTP, app.TCP, app.GRPC, app.Memcached, app.Redis, app.Heartbeat}).Draw(t, "kind")
		rise := rapid.IntRange(1, 3).Draw(t, "rise")
		steps := rapid.StringMatching(`[xd.-]{0,10}`).Draw(t, "steps") +
			rapid.StringMatching(fmt.Sprintf(`\+{0,%d}`, rise-1)).Draw(t, "passes")
		i := instance(kind, rise, 1, "").Begin(epoch)
		if i = live(i, steps); i.Routable() {
			t.Errorf("%s check with rise %d is routable after %q", kind, rise, steps)
		}
	})
}

func TestAnOverrideChangesNoState(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		i := instance(app.Heartbeat, rapid.IntRange(1, 3).Draw(t, "rise"), rapid.IntRange(1, 3).Draw(t, "fall"), "").Begin(epoch)
		steps := rapid.StringMatching(`[+xd-]{0,20}`).Draw(t, "steps")
		want := live(i, steps)
		i.Override = app.Override{Maintenance: rapid.Bool().Draw(t, "maintenance"), Weight: rapid.IntRange(0, 9).Draw(t, "weight"), Until: epoch}
		want.Override = i.Override
		got := live(i, steps)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", steps, diff)
		}
		if got.Routable() && i.Override.Maintenance {
			t.Errorf("in maintenance, and routable after %s", steps)
		}
	})
}

func TestBegin(t *testing.T) {
	t.Parallel()
	for _, kind := range []app.Kind{app.HTTP, app.TCP, app.GRPC, app.Memcached, app.Redis, app.Heartbeat, app.None} {
		for _, from := range states {
			was := instance(kind, 2, 2, from)
			was.Streak, was.Last = 1, result('-', epoch)
			now := epoch.Add(time.Minute)

			want := instance(kind, 2, 2, app.Starting)
			want.ChangedAt = now
			if kind == app.None {
				want.State = app.Healthy
			}
			if diff := cmp.Diff(want, was.Begin(now)); diff != "" {
				t.Errorf("%s check begins anew from %s (-want +got):\n%s", kind, from, diff)
			}
		}
	}
}

func TestExpire(t *testing.T) {
	t.Parallel()
	now := epoch.Add(time.Minute)
	late := app.Result{At: now, Code: app.NoHeartbeat, Detail: "none for 11s"}
	for _, c := range []struct {
		from   app.State
		kind   app.Kind
		want   app.State
		last   app.Result
		probed bool
	}{
		{app.Starting, app.HTTP, app.Failed, result('-', epoch), true}, // still probed
		{app.Starting, app.Heartbeat, app.Failed, result('-', epoch), false},
		{app.Healthy, app.Heartbeat, app.Unhealthy, late, false},
		{app.Unhealthy, app.HTTP, app.Gone, result('-', epoch), false},
		{app.Unhealthy, app.Heartbeat, app.Gone, result('-', epoch), false},
		{app.Failed, app.HTTP, app.Gone, result('-', epoch), false},
		{app.Failed, app.Heartbeat, app.Gone, result('-', epoch), false},
		{app.Draining, app.HTTP, app.Gone, result('-', epoch), false},
		{app.Draining, app.None, app.Gone, result('-', epoch), false},
	} {
		was := instance(c.kind, 2, 2, c.from)
		was.Streak, was.Last = 1, result('-', epoch)
		if c.kind == app.Heartbeat {
			was.Check.Interval = 5 * time.Second // with fall 2 and 1 s to spare: 11 s
		}
		want := was
		want.State, want.Streak, want.Last, want.ChangedAt = c.want, 0, c.last, now
		if c.want == app.Unhealthy {
			want.Falls = 1
		}
		got := was.Expire(now)
		if diff := cmp.Diff(want, got); diff != "" || got.Probed() != c.probed {
			t.Errorf("%s with a %s check expires, probed: %t (-want +got):\n%s", c.from, c.kind, got.Probed(), diff)
		}
	}
}

func TestForgetStartsAgainWhenAnInstanceStopsAnswering(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		codes []app.Code // each a minute after the one before; 0 is a pass
		want  int        // minutes after the first code that the forget period began
	}{
		{[]app.Code{app.Refused, app.Refused, app.Unreachable, app.TimedOut}, 0},
		{[]app.Code{500, 503, app.Stalled, app.Reset}, 0},
		{[]app.Code{500, 500, app.Refused, app.Refused, app.Unreachable}, 2},
		{[]app.Code{app.Refused, 500, 500}, 0},
		{[]app.Code{app.Refused, 500, app.Refused, app.Refused}, 2},
		{[]app.Code{app.Refused, app.OK, app.Refused}, 2},
		{[]app.Code{500, app.Inconclusive, 500}, 0},
		{[]app.Code{500, app.Refused, app.Inconclusive, app.Refused}, 1},
	} {
		for _, from := range []app.State{app.Unhealthy, app.Failed} {
			i := instance(app.HTTP, 2, 1, app.Healthy)
			i = i.Observe(app.Result{At: epoch, Code: c.codes[0]}, epoch)
			i.State = from
			for n, code := range c.codes[1:] {
				at := epoch.Add(time.Duration(n+1) * time.Minute)
				r := app.Result{At: at, Passed: code == app.OK, Code: code}
				if i.Alive(r) {
					i.AssertedAt = at
				}
				i = i.Observe(r, at)
			}
			if got := i.Deadline().Add(-i.Check.Forget).Sub(epoch).Minutes(); int(got) != c.want {
				t.Errorf("%s, %v: began after %v minutes, want %d", from, c.codes, got, c.want)
			}
		}
	}
}

func TestExpireKeepsAStateWithoutATimeout(t *testing.T) {
	t.Parallel()
	for _, was := range []app.Instance{
		instance(app.HTTP, 2, 2, app.Healthy),
		instance(app.None, 2, 2, app.Healthy),
		instance(app.HTTP, 2, 2, app.Gone),
		instance(app.Heartbeat, 2, 2, app.Gone),
	} {
		was.Streak = 1
		if diff := cmp.Diff(was, was.Expire(epoch.Add(time.Minute))); diff != "" {
			t.Errorf("%s with a %s check expires (-want +got):\n%s", was.State, was.Check.Kind, diff)
		}
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	now := epoch.Add(time.Minute)
	for _, c := range []struct {
		from     app.State
		hold     time.Duration
		want     app.State
		deadline time.Time
	}{
		{app.Starting, 5 * time.Second, app.Draining, now.Add(5 * time.Second)},
		{app.Healthy, 5 * time.Second, app.Draining, now.Add(5 * time.Second)},
		{app.Unhealthy, 5 * time.Second, app.Draining, now.Add(5 * time.Second)},
		{app.Failed, 5 * time.Second, app.Draining, now.Add(5 * time.Second)},
		{app.Healthy, 0, app.Draining, now},
	} {
		was := instance(app.HTTP, 2, 2, c.from)
		was.Streak, was.Last = 1, result('-', epoch)
		want := was
		want.State, want.Streak, want.ChangedAt, want.DrainPeriod = c.want, 0, now, c.hold
		got := was.Drain(c.hold, now)
		if diff := cmp.Diff(want, got); diff != "" || !got.Deadline().Equal(c.deadline) {
			t.Errorf("%s drains for %s (-want +got):\n%s", c.from, c.hold, diff)
		}
	}
}

func TestDrainingTwiceExtendsNoDrainPeriod(t *testing.T) {
	t.Parallel()
	for _, from := range []app.State{app.Draining, app.Gone} {
		was := instance(app.HTTP, 2, 2, from)
		was.ChangedAt, was.DrainPeriod = epoch, time.Second
		if diff := cmp.Diff(was, was.Drain(time.Hour, epoch.Add(time.Minute))); diff != "" {
			t.Errorf("%s drains (-want +got):\n%s", from, diff)
		}
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	for _, from := range states {
		was := instance(app.HTTP, 2, 2, from)
		was.Streak, was.DrainPeriod = 1, time.Second
		want := was
		want.State, want.Streak, want.ChangedAt, want.DrainPeriod = app.Gone, 0, epoch.Add(time.Minute), 0
		if diff := cmp.Diff(want, was.Remove(epoch.Add(time.Minute))); diff != "" {
			t.Errorf("%s leaves (-want +got):\n%s", from, diff)
		}
	}
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	const none = time.Duration(-1)
	at := func(second int) time.Duration { return time.Duration(second) * time.Second }
	check := app.DefaultCheck(app.HTTP)
	const lease = 11 * time.Second // 2 intervals of 5 s and a second to spare
	for _, c := range []struct {
		kind    app.Kind
		results string
		want    time.Duration // from the epoch
	}{
		{app.HTTP, "", check.Grace},
		{app.HTTP, "-+-", check.Grace}, // a lone pass gives no more time
		{app.HTTP, "++", none},
		{app.HTTP, "++-", none},
		{app.HTTP, "++--", at(4) + check.Forget},
		{app.HTTP, "++----", at(4) + check.Forget}, // no answer since then
		{app.HTTP, "++--+-", at(6) + check.Forget}, // a pass is an answer
		{app.Heartbeat, "", check.Grace},
		{app.Heartbeat, "+", check.Grace},
		{app.Heartbeat, "++", at(2) + lease},
		{app.Heartbeat, "+++++", at(5) + lease}, // every good report renews the lease
		{app.Heartbeat, "++-", at(2) + lease},   // a bad one does not
		{app.Heartbeat, "++-+", at(4) + lease},
		{app.Heartbeat, "++--", at(4) + check.Forget},
		{app.Heartbeat, "++--+", at(5) + check.Forget}, // any report says that it is there
		{app.Heartbeat, "++---", at(5) + check.Forget},
		{app.Heartbeat, "++--++", at(6) + lease},
	} {
		i := instance(c.kind, 2, 2, "").Begin(epoch)
		for n, sign := range c.results {
			now := epoch.Add(at(n + 1))
			r := result(sign, now)
			if i.Alive(r) || i.Check.Kind == app.Heartbeat && i.State == app.Healthy && r.Passed { // the cases in which a report or a result is recorded
				i.AssertedAt = now
			}
			i = i.Observe(r, now)
		}
		got := none
		if d := i.Deadline(); !d.IsZero() {
			got = d.Sub(epoch)
		}
		if got != c.want {
			t.Errorf("%s check: %s after %q with %s left from the beginning, want %s", c.kind, i.State, c.results, got, c.want)
		}
	}
}

// TestObserveKeepsTheLastResultThatChangedSomething writes a result as its sign and its code.
func TestObserveKeepsTheLastResultThatChangedSomething(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from    app.State
		results string
		want    string // Last after each result
	}{
		{app.Healthy, "+200 +200 +204", "+0 +0 +0"}, // no change
		{app.Healthy, "-10 +200 +204", "-10 +200 +200"},
		{app.Healthy, "-10 -11 -12 -12", "-10 -11 -12 -12"},
		{app.Healthy, "-10 -10 +200 +200 +204", "-10 -10 +200 +200 +200"},
		{app.Unhealthy, "-503 -503 -10 +200 -10", "-503 -503 -10 +200 -10"},
		{app.Starting, "-10 -10 -503 +200 +201 +202", "-10 -10 -503 +200 +201 +201"},
		{app.Failed, "-10 +200 -10", "-10 +200 -10"},
		{app.Draining, "-10 +200", "+0 +0"},
	} {
		i := instance(app.HTTP, 2, 2, c.from)
		i.Last = app.Result{Passed: true}
		var got []string
		for n, field := range strings.Fields(c.results) {
			at := epoch.Add(time.Duration(n) * time.Second)
			r := app.Result{At: at, Passed: field[0] == '+'}
			if _, err := fmt.Sscan(field[1:], &r.Code); err != nil {
				t.Fatal(err)
			}
			i = i.Observe(r, at)
			sign := "-"
			if i.Last.Passed {
				sign = "+"
			}
			got = append(got, fmt.Sprint(sign, int(i.Last.Code)))
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s: after %s the last result goes %s, want %s", c.from, c.results, got, c.want)
		}
	}
}

func TestChangedAtIsTheTimeOfTheDecision(t *testing.T) {
	t.Parallel()
	i, _ := observe(instance(app.HTTP, 2, 2, "").Begin(epoch), "-++-+-+")
	if want := epoch.Add(3 * time.Second); !i.ChangedAt.Equal(want) {
		t.Errorf("changed at %s, want %s", i.ChangedAt, want)
	}
}

// TestAnInconclusiveResultNeverCounts draws a history, and one inconclusive result at any place in
// it.
func TestAnInconclusiveResultNeverCounts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		i := instance(app.TCP, rapid.IntRange(1, 4).Draw(t, "rise"), rapid.IntRange(1, 4).Draw(t, "fall"), rapid.SampledFrom(states).Draw(t, "state"))
		i, _ = observe(i, rapid.StringMatching(`[+-]{0,10}`).Draw(t, "results"))
		code := rapid.SampledFrom([]app.Code{app.Inconclusive, app.NameServerFailed}).Draw(t, "code")
		after := i.Observe(app.Result{At: epoch.Add(time.Minute), Code: code, Detail: "x"}, epoch.Add(time.Minute))
		if diff := cmp.Diff(i, after); diff != "" {
			t.Errorf("%s changed the instance (-before +after):\n%s", code, diff)
		}
	})
}
