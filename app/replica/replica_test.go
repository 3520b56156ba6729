package replica_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rollcall/app"
	"rollcall/app/redisstore/storetest"
	"rollcall/app/replica"
)

var epoch = time.UnixMilli(1_700_000_000_000)

// known returns instances written as service/id:state.
func known(words ...string) []app.Instance {
	var instances []app.Instance
	for _, word := range words {
		service, rest, _ := strings.Cut(word, "/")
		id, state, _ := strings.Cut(rest, ":")
		instances = append(instances, app.Instance{Service: service, ID: id, State: app.State(state)})
	}
	return instances
}

// entry returns an event about an instance in the notation of known; -id means that it is gone.
func entry(revision app.Revision, word string) app.Entry {
	if id, gone := strings.CutPrefix(word, "-"); gone {
		return app.Entry{Event: app.Event{Revision: revision, Kind: app.EventGone, Instance: id}}
	}
	i := known(word)[0]
	return app.Entry{Event: app.Event{Revision: revision, Kind: app.EventUpdated, Instance: i.ID}, Instance: i}
}

// written is the reverse of known, space-separated.
func written(instances []app.Instance) string {
	var words []string
	for _, i := range instances {
		words = append(words, fmt.Sprintf("%s/%s:%s", i.Service, i.ID, i.State))
	}
	return strings.Join(words, " ")
}

func TestANewReplicaIsEmpty(t *testing.T) {
	t.Parallel()
	s := replica.New()
	if s.Revision() != "" || len(s.Services()) != 0 || len(s.Instances("")) != 0 || len(s.Instances("web")) != 0 {
		t.Errorf("revision %q, services %q, instances %q", s.Revision(), s.Services(), written(s.Instances("")))
	}
	if i, ok := s.Instance("a"); ok {
		t.Errorf("has %+v", i)
	}
}

func TestReplica(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reset, events string // applied as 1-0, 2-0, 3-0
		revision      app.Revision
		services      string
		all           string
	}{
		"empty":           {"", "", "1-0", "", ""},
		"loaded":          {"web/b:healthy db/c:starting web/a:failed", "", "1-0", "db web", "web/a:failed web/b:healthy db/c:starting"},
		"one more":        {"web/b:healthy", "web/a:starting", "2-0", "web", "web/a:starting web/b:healthy"},
		"another service": {"web/b:healthy", "web/d:failed db/a:starting", "3-0", "db web", "db/a:starting web/b:healthy web/d:failed"},
		"another state":   {"web/a:starting", "web/a:healthy web/a:draining", "3-0", "web", "web/a:draining"},
		"one gone":        {"web/a:healthy web/b:healthy", "-a", "2-0", "web", "web/b:healthy"},
		"a service gone":  {"web/a:healthy db/b:healthy", "-a", "2-0", "db", "db/b:healthy"},
		"gone and back":   {"web/a:healthy", "-a web/a:starting", "3-0", "web", "web/a:starting"},
		"told twice":      {"web/a:healthy", "web/a:starting web/a:healthy", "3-0", "web", "web/a:healthy"}, // written during a reset
		"gone unknown":    {"web/a:healthy", "-z", "2-0", "web", "web/a:healthy"},
		"moved":           {"web/a:healthy", "-a db/a:starting", "3-0", "db", "db/a:starting"},
		"just moved":      {"web/a:healthy", "db/a:starting", "2-0", "db", "db/a:starting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := replica.New()
			s.Reset(known(strings.Fields(c.reset)...), "1-0")
			var entries []app.Entry
			for n, word := range strings.Fields(c.events) {
				entries = append(entries, entry(app.Revision(fmt.Sprintf("%d-0", n+2)), word))
			}
			s.Apply(entries)

			if s.Revision() != c.revision {
				t.Errorf("stands on %s, want %s", s.Revision(), c.revision)
			}
			if got := strings.Join(s.Services(), " "); got != c.services {
				t.Errorf("services are %q, want %q", got, c.services)
			}
			if got := written(s.Instances("")); got != c.all {
				t.Errorf("instances are %q, want %q", got, c.all)
			}
			consistent(t, s)
		})
	}
}

// consistent compares the ways to ask for an instance.
func consistent(t *testing.T, s *replica.Replica) {
	t.Helper()
	var count int
	for _, name := range s.Services() {
		for _, i := range s.Instances(name) {
			count++
			if same, ok := s.Instance(i.ID); !ok || i.Service != name || cmp.Diff(i, same) != "" {
				t.Errorf("%s of %s by its id is %+v, %t", i.ID, name, same, ok)
			}
		}
	}
	if all := s.Instances(""); len(all) != count {
		t.Errorf("%d instances in all services, %q in all", count, written(all))
	}
	if got := s.Instances("none"); len(got) != 0 {
		t.Errorf("a service without instances has %q", written(got))
	}
}

func TestResetDropsTheOldInstances(t *testing.T) {
	t.Parallel()
	s := replica.New()
	s.Reset(known("web/a:healthy", "db/b:healthy"), "9-0")
	s.Reset(known("web/c:healthy"), "1-0") // another registry may be younger
	if got := written(s.Instances("")); got != "web/c:healthy" || s.Revision() != "1-0" || !slices.Equal(s.Services(), []string{"web"}) {
		t.Errorf("instances %q, services %q, revision %s", got, s.Services(), s.Revision())
	}
	if _, ok := s.Instance("a"); ok {
		t.Error("a is still known")
	}
}

// TestReplicaFollowsAnyHistory compares with a plain map.
func TestReplicaFollowsAnyHistory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, want := replica.New(), map[string]string{}
		s.Reset(nil, "1-0")
		for n, word := range rapid.SliceOfN(rapid.StringMatching(`(web|db)/[a-d]:(healthy|failed)|-[a-d]`), 1, 30).Draw(t, "history") {
			e := entry(app.Revision(fmt.Sprintf("2-%d", n)), word)
			s.Apply([]app.Entry{e})
			delete(want, e.Event.Instance)
			if e.Instance.ID != "" {
				want[e.Event.Instance] = word
			}
			byID := make([]string, 0, len(want))
			services := map[string]bool{}
			for _, id := range slices.Sorted(maps.Keys(want)) {
				byID = append(byID, want[id])
				service, _, _ := strings.Cut(want[id], "/")
				services[service] = true
			}
			if got, want := written(s.Instances("")), strings.Join(byID, " "); got != want {
				t.Fatalf("after %s: %q, want %q", word, got, want)
			}
			if got := s.Services(); !slices.Equal(got, slices.Sorted(maps.Keys(services))) {
				t.Fatalf("after %s: services %q", word, got)
			}
		}
	})
}

func TestAServiceIsSharedUntilItChanges(t *testing.T) {
	t.Parallel()
	s := replica.New()
	s.Reset(known("web/a:healthy", "web/b:unhealthy", "web/c:healthy", "db/d:healthy"), "1-0")
	was := s.Service("web")
	if got := written(was.Routable); was.Revision != "1-0" || got != "web/a:healthy web/c:healthy" {
		t.Errorf("at %s routable: %s", was.Revision, got)
	}
	encoded := 0
	encode := func() []byte { encoded++; return []byte(was.Revision) }
	was.Encoded(encode)

	s.Apply([]app.Entry{entry("2-0", "db/d:unhealthy")})
	if is := s.Service("web"); is != was || string(is.Encoded(encode)) != "1-0" || encoded != 1 {
		t.Errorf("another service changed: shared %t, encoded %d times", is == was, encoded)
	}
	s.Apply([]app.Entry{entry("3-0", "web/b:healthy"), entry("4-0", "-c")})
	if got := written(was.Instances); got != "web/a:healthy web/b:unhealthy web/c:healthy" {
		t.Errorf("the view of an earlier reader is now %s", got)
	}
	is := s.Service("web")
	if got := written(is.Routable); is.Revision != "4-0" || got != "web/a:healthy web/b:healthy" || got != written(is.Instances) {
		t.Errorf("at %s routable: %s, all: %s", is.Revision, got, written(is.Instances))
	}
	s.Reset(known("web/z:healthy"), "4-0") // another registry may be at the same revision
	if got := written(s.Service("web").Instances); got != "web/z:healthy" {
		t.Errorf("after a reset: %s", got)
	}
	if s.Service("db") != nil {
		t.Error("a service without instances is known")
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		loaded bool
		heard  time.Time
		now    time.Duration // since the epoch
		want   time.Duration
		err    string // empty: none
	}{
		{false, time.Time{}, 0, 0, "the registry has not been read yet: unavailable"},
		{true, time.Time{}, 0, 0, "the registry has not been read yet: unavailable"}, // its events not yet
		{false, epoch, 0, 0, "the registry has not been read yet: unavailable"},
		{true, epoch, 0, 0, ""},
		{true, epoch, time.Second, time.Second, ""},
		{true, epoch, 2 * time.Second, 2 * time.Second, ""},
		{true, epoch, 2*time.Second + 1, 2*time.Second + 1, "no word from the registry for 2s: unavailable"},
		{true, epoch, 61260 * time.Millisecond, 61260 * time.Millisecond, "no word from the registry for 1m1.3s: unavailable"},
	} {
		s := replica.New()
		if c.loaded {
			s.Reset(nil, "1-0")
		}
		s.SetCurrent(c.heard)
		got, err := s.Age(epoch.Add(c.now))
		if got != c.want {
			t.Errorf("loaded %t, heard %s, %s later: %s old, want %s", c.loaded, c.heard, c.now, got, c.want)
		}
		if text := fmt.Sprint(err); c.err == "" && err != nil || c.err != "" && (text != c.err || !errors.Is(err, app.ErrUnavailable)) {
			t.Errorf("loaded %t, heard %s, %s later: %q, want %q", c.loaded, c.heard, c.now, text, c.err)
		}
	}
}

func TestAgeCountsFromTheLastConfirmation(t *testing.T) {
	t.Parallel()
	s := replica.New()
	s.Reset(nil, "1-0")
	s.SetCurrent(epoch)
	s.SetCurrent(epoch.Add(3 * time.Second))
	s.Apply([]app.Entry{entry("2-0", "web/a:healthy")}) // one event is not all there is
	if age, err := s.Age(epoch.Add(4 * time.Second)); age != time.Second || err != nil {
		t.Errorf("%s old, %v; want 1s", age, err)
	}
}

func TestServiceRevision(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		events string // applied as 2-1, 2-2, ...
		want   string // of web, db and a service without instances
	}{
		{"", "1-0 1-0 1-0"},
		{"web/a:failed", "2-1 1-0 2-1"},
		{"web/a:failed db/c:failed", "2-1 2-2 2-2"},
		{"web/c:failed db/d:failed db/e:failed", "2-1 2-3 2-3"},
		{"db/c:failed -a", "2-2 2-1 2-2"},    // it is a change that one is gone
		{"-a -b db/c:failed", "2-3 2-3 2-3"}, // none left: the revision of their last change is lost
		{"-a -b web/a:starting db/c:failed", "2-3 2-4 2-4"},
		{"-z", "1-0 1-0 2-1"},
		{"db/a:starting", "2-1 2-1 2-1"}, // both lost and won
	} {
		s := replica.New()
		s.Reset(known("web/a:healthy", "web/b:healthy", "db/y:healthy"), "1-0")
		for n, word := range strings.Fields(c.events) {
			s.Apply([]app.Entry{entry(at(n+1), word)})
		}
		if got := fmt.Sprint(s.ServiceRevision("web"), " ", s.ServiceRevision("db"), " ", s.ServiceRevision("none")); got != c.want {
			t.Errorf("after %q: %s, want %s", c.events, got, c.want)
		}
	}
}

// at is the revision of the n-th event of a test.
func at(n int) app.Revision { return app.Revision(fmt.Sprintf("2-%d", n)) }

func revisions(events []app.Event) string {
	var words []string
	for _, e := range events {
		words = append(words, string(e.Revision))
	}
	return strings.Join(words, " ")
}

func TestEventsAfter(t *testing.T) {
	t.Parallel()
	s := replica.New()
	s.Reset(known("web/a:healthy"), "1-5")
	s.Apply([]app.Entry{entry("2-1", "web/a:failed"), entry("2-2", "-a"), entry("2-10", "web/a:starting")})
	s.Apply([]app.Entry{entry("3-0", "web/a:healthy")})
	for _, c := range []struct {
		after app.Revision
		limit int
		want  string
		held  bool
	}{
		{"1-5", 10, "2-1 2-2 2-10 3-0", true},
		{"1-5", 2, "2-1 2-2", true},
		{"1-5", 0, "", true},
		{"1-6", 10, "", false}, // an event of another registry
		{"2-1", 10, "2-2 2-10 3-0", true},
		{"2-2", 1, "2-10", true},
		{"2-3", 10, "", false},
		{"2-10", 10, "3-0", true},
		{"3-0", 10, "", true},
		{"9-0", 10, "", false},
		{"1-4", 10, "", false},
		{"", 10, "", false},
	} {
		events, held := s.EventsAfter(c.after, c.limit)
		if got := revisions(events); got != c.want || held != c.held {
			t.Errorf("at most %d after %q: %q, held %t; want %q, %t", c.limit, c.after, got, held, c.want, c.held)
		}
	}
}

func TestEventsAfterAReset(t *testing.T) {
	t.Parallel()
	s := replica.New()
	s.Reset(nil, "1-0")
	s.Apply([]app.Entry{entry("2-0", "web/a:healthy")})
	s.Reset(known("web/a:healthy"), "2-0")
	if events, held := s.EventsAfter("1-0", 10); held {
		t.Errorf("held %q", revisions(events))
	}
	if events, held := s.EventsAfter("2-0", 10); !held || len(events) != 0 {
		t.Errorf("held %t, %q", held, revisions(events))
	}
}

func TestAResetBringsTheEventsUntilThen(t *testing.T) {
	t.Parallel()
	s := replica.New()
	s.Reset(nil, "2-0", app.Event{Revision: "1-0"}, app.Event{Revision: "1-1"}, app.Event{Revision: "2-0"})
	s.Apply([]app.Entry{entry("3-0", "web/a:healthy")})
	for _, c := range []struct {
		after app.Revision
		want  string
		held  bool
	}{{"0-9", "", false}, {"1-0", "1-1 2-0 3-0", true}, {"1-1", "2-0 3-0", true}, {"2-0", "3-0", true}} {
		events, held := s.EventsAfter(c.after, 10)
		if got := revisions(events); got != c.want || held != c.held {
			t.Errorf("after %s: %q, held %t; want %q, %t", c.after, got, held, c.want, c.held)
		}
	}
}

func TestLatest(t *testing.T) {
	t.Parallel()
	s := replica.New()
	s.Reset(nil, "1-0", app.Event{Revision: "1-0", Instance: "b"})
	s.Apply([]app.Entry{entry("2-0", "web/a:healthy"), entry("2-1", "web/b:healthy"), entry("3-0", "web/a:failed")})
	every := func(app.Event) bool { return true }
	ofB := func(e app.Event) bool { return e.Instance == "b" }
	for _, c := range []struct {
		before app.Revision
		limit  int
		wanted func(app.Event) bool
		want   string
	}{
		{"", 10, every, "3-0 2-1 2-0 1-0"},
		{"", 2, every, "3-0 2-1"},
		{"", 0, every, ""},
		{"2-1", 10, every, "2-0 1-0"},
		{"2-2", 1, every, "2-1"},
		{"1-0", 10, every, ""},
		{"", 10, ofB, "2-1 1-0"},
		{"2-1", 10, ofB, "1-0"},
	} {
		if got := revisions(s.Latest(c.before, c.limit, c.wanted)); got != c.want {
			t.Errorf("at most %d before %q: %q, want %q", c.limit, c.before, got, c.want)
		}
	}
}

// TestAReplicaKeepsTheLastEvents applies far more than are held, in pieces of
// several sizes.
func TestAReplicaKeepsTheLastEvents(t *testing.T) {
	t.Parallel()
	const total, kept = 10_000, 4096
	for _, piece := range []int{1, 1000, 7000, total} {
		s := replica.New()
		s.Reset(nil, "1-0")
		var entries []app.Entry
		for n := 1; n <= total; n++ {
			if entries = append(entries, entry(at(n), "web/a:healthy")); len(entries) == piece || n == total {
				s.Apply(entries)
				entries = nil
			}
		}
		if events, held := s.EventsAfter(at(total-kept), total); !held || len(events) != kept || events[0].Revision != at(total-kept+1) {
			t.Errorf("in pieces of %d: held %t, %d of the last %d", piece, held, len(events), kept)
		}
		oldest := sort.Search(total, func(n int) bool {
			_, held := s.EventsAfter(at(n), 1)
			return held
		})
		if oldest < total-2*kept {
			t.Errorf("in pieces of %d: %d are held", piece, total-oldest)
		}
		if events, held := s.EventsAfter(at(oldest), 1); !held || len(events) != 1 || events[0].Revision != at(oldest+1) {
			t.Errorf("in pieces of %d: after %s comes %q, held %t", piece, at(oldest), revisions(events), held)
		}
	}
}

func TestEventsBelongToTheCaller(t *testing.T) {
	t.Parallel()
	s := replica.New()
	s.Reset(nil, "1-0")
	s.Apply([]app.Entry{entry("2-1", "web/a:healthy"), entry("2-2", "web/a:failed")})
	events, _ := s.EventsAfter("1-0", 1)
	events = append(events[:0], app.Event{Revision: "0-0"}, app.Event{Revision: "0-0"})
	if again, _ := s.EventsAfter("1-0", 10); revisions(again) != "2-1 2-2" {
		t.Errorf("after a caller wrote %q: %q", revisions(events), revisions(again))
	}
}

// waiting runs a wait of a replica in a bubble and reports how it ended, if it has.
func waiting(wait func() error) (ended func() (bool, error)) {
	ends := make(chan error, 1)
	go func() { ends <- wait() }()
	var done bool
	var err error
	return func() (bool, error) {
		synctest.Wait()
		select {
		case err = <-ends:
			done = true
		default:
		}
		return done, err
	}
}

func TestWaitIsAskedAfterEveryChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, asked := replica.New(), 0
		ended := waiting(func() error {
			return s.Wait(t.Context(), func() bool {
				asked++
				_, ok := s.Instance("b")
				return ok
			})
		})
		expect := func(what string, wantAsked int, want bool) {
			t.Helper()
			if done, err := ended(); done != want || err != nil || asked != wantAsked {
				t.Errorf("%s: over %t, %v, asked %d times; want %t and %d times", what, done, err, asked, want, wantAsked)
			}
		}
		expect("at first", 1, false)
		s.Reset(known("web/a:healthy"), "1-0")
		expect("after a reset", 2, false)
		s.Apply(nil)
		s.SetCurrent(epoch)
		expect("after nothing", 2, false)
		s.Apply([]app.Entry{entry("2-0", "db/c:healthy")})
		expect("after another change", 3, false)
		s.Apply([]app.Entry{entry("2-1", "web/b:starting")})
		expect("after the change", 4, true)
		s.Apply([]app.Entry{entry("2-2", "-b")})
		expect("afterwards", 4, true)
	})
}

func TestWaitReturnsAtOnceIfDone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := replica.New().Wait(ctx, func() bool { return true }); err != nil {
		t.Error(err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stopped := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		s := replica.New()
		ended := waiting(func() error { return s.Wait(ctx, func() bool { return false }) })
		s.Reset(nil, "1-0")
		if done, err := ended(); done {
			t.Errorf("over, %v", err)
		}
		cancel(stopped)
		if done, err := ended(); !done || !errors.Is(err, stopped) {
			t.Errorf("over %t, %v; want %v", done, err, stopped)
		}
	})
}

func TestWaitDoesNotMissAChangeMeanwhile(t *testing.T) {
	t.Parallel()
	s := replica.New()
	err := s.Wait(t.Context(), func() bool {
		if _, ok := s.Instance("a"); ok {
			return true
		}
		s.Reset(known("web/a:healthy"), "1-0") // between the question and the wait for an answer
		return false
	})
	if err != nil {
		t.Error(err)
	}
}

func TestReached(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		stands, wanted app.Revision
		want           bool
	}{
		{"", "", true},
		{"", "0-1", false},
		{"5-1", "", true},
		{"5-1", "5-0", true},
		{"5-1", "5-1", true},
		{"5-1", "5-2", false},
		{"5-1", "5-10", false},
		{"5-10", "5-9", true},
		{"9-0", "10-0", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := replica.New()
			s.Reset(nil, c.stands)
			ended := waiting(func() error { return s.WaitRevision(t.Context(), c.wanted) })
			if done, err := ended(); done != c.want || err != nil {
				t.Errorf("%q has reached %q: %t, %v; want %t", c.stands, c.wanted, done, err, c.want)
			}
			s.Apply([]app.Entry{entry("99-0", "web/a:healthy")})
			if done, err := ended(); !done || err != nil {
				t.Errorf("%q has reached %q: %t, %v", s.Revision(), c.wanted, done, err)
			}
		})
	}
}

func TestReadersWaitForTheWritesOfTheirProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := replica.New()
		s.Reset(nil, "1-0")
		wait := func() func() (bool, error) {
			return waiting(func() error { s.WaitWrites(t.Context()); return nil })
		}
		if done, _ := wait()(); !done {
			t.Error("a reader waits for nothing")
		}
		s.Written("5-0")
		s.Written("3-0") // a call that was answered later
		early := wait()
		s.Apply([]app.Entry{entry("4-0", "web/a:healthy")})
		if done, _ := early(); done {
			t.Error("a reader goes on without the newest write")
		}
		s.Apply([]app.Entry{entry("5-0", "web/b:healthy")})
		if done, _ := early(); !done {
			t.Error("a reader waits although the replica has the writes")
		}
		s.Written("9-0")
		lost := wait()
		if done, _ := lost(); done {
			t.Error("a reader goes on without the newest write")
		}
		time.Sleep(time.Second)
		if done, _ := lost(); !done {
			t.Error("a reader waits for a lost write for more than a second")
		}
		if done, _ := wait()(); !done {
			t.Error("a later reader waits for a lost write")
		}
	})
}

func TestReachedEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := replica.New().WaitRevision(ctx, "1-0"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that the deadline is over", err)
		}
	})
}

// TestReplicaHasConcurrentReaders has readers look while a writer works: every answer is of
// one moment, and every reader gets to the end.
func TestReplicaHasConcurrentReaders(t *testing.T) {
	t.Parallel()
	const last = 600
	s := replica.New()
	s.Reset(known("web/a:healthy", "web/b:healthy"), "1-0")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.WaitRevision(t.Context(), at(last)); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			for seen := app.Revision(""); seen != at(last); {
				before := seen
				if seen = s.Revision(); seen.Compare(before) < 0 {
					t.Errorf("stands on %s after %s", seen, before)
				}
				if got := written(s.Instances("web")); got != "web/a:healthy web/b:healthy" && got != "web/a:failed web/b:failed" {
					t.Errorf("instances are %q", got)
				}
				if i, ok := s.Instance("a"); !ok || i.ID != "a" {
					t.Errorf("a is %+v, %t", i, ok)
				}
				if got := s.Services(); !slices.Equal(got, []string{"web"}) {
					t.Errorf("services are %q", got)
				}
				if got := s.ServiceRevision("web"); got.Compare(seen) < 0 {
					t.Errorf("web stands on %s after %s", got, seen)
				}
				if events, held := s.EventsAfter(seen, last); held && slices.ContainsFunc(events, func(e app.Event) bool { return e.Revision.Compare(seen) <= 0 }) {
					t.Errorf("events after %s: %v", seen, revisions(events))
				}
				if _, err := s.Age(epoch); err != nil && !errors.Is(err, app.ErrUnavailable) {
					t.Error(err)
				}
			}
		})
	}
	for n := 2; n <= last; n += 2 {
		state := []string{"healthy", "failed"}[n/2%2]
		revision := at(n)
		s.Apply([]app.Entry{entry(at(n-1), "web/a:"+state), entry(revision, "web/b:"+state)})
		s.SetCurrent(epoch)
		if n == last/2 {
			s.Reset(s.Instances(""), revision)
		}
	}
	wg.Wait()
}

// TestAReplicaKeepsEveryField changes each field of an instance in turn.
func TestAReplicaKeepsEveryField(t *testing.T) {
	t.Parallel()
	for path, i := range storetest.Changed() {
		r := replica.New()
		r.Reset([]app.Instance{i}, "1-0")
		want := i
		want.AssertedAt = time.Time{}
		got, _ := r.Instance(i.ID)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("with another %s (-want +got):\n%s", path, diff)
		}
		if all := slices.Collect(r.All()); len(all) != 1 || cmp.Diff(want, all[0]) != "" {
			t.Errorf("with another %s, all instances are %+v", path, all)
		}
		if left := storetest.FieldTag(path, "replica") == "-"; left != (path == "AssertedAt") {
			t.Errorf("%s: the tag replica does not agree with this test", path)
		}
	}
}
