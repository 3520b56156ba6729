package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/tests/harness"
)

const (
	maxLag = 2 * time.Second // min-replicas-max-lag of docs/operations.md
	// lossBound is the time after the cut during which a primary with maxLag acknowledges: Redis counts
	// the lag in whole seconds, and checks it once a second.
	lossBound = maxLag + 2*time.Second
)

// pair is a primary and its replica, with a link between them.
type pair struct {
	primary, replica *harness.Server
	link             *harness.Link
}

func newPair(t *testing.T, options ...string) pair {
	t.Helper()
	p := pair{primary: harness.StartRedis(t), replica: harness.StartRedis(t)}
	p.primary.Restart(t, append([]string{"--appendonly", "yes"}, options...)...)
	p.link = harness.NewLink(t, p.primary.Addr())
	host, port, _ := net.SplitHostPort(p.link.Addr())
	p.replica.Restart(t, "--appendonly", "yes", "--replicaof", host+" "+port)
	primary := p.primary.Client(t)
	harness.Eventually(t, func() error {
		if said := primary.Info(t.Context(), "replication").Val(); !strings.Contains(said, "state=online") || strings.Contains(said, "good_slaves:0") {
			return fmt.Errorf("the replica is not in step: %s", said)
		}
		return nil
	})
	return p
}

// registrations come from some callers, one after the other, until the test stops them.
type registrations struct {
	mu      sync.Mutex
	acked   map[string]time.Time // by id
	refused int
	last    answer // the last refusal

	stop func()
}

func register(t *testing.T, a api) *registrations {
	t.Helper()
	const callers, pause = 4, 40 * time.Millisecond
	r := &registrations{acked: map[string]time.Time{}}
	over := make(chan struct{})
	var running sync.WaitGroup
	for caller := range callers {
		running.Go(func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("c%d-%d", caller, n)
				got, err := a.try(http.MethodPost, "/v1/register", form("id", id, "service", fmt.Sprint("s", caller), "address", fmt.Sprintf("10.0.0.%d:%d", caller, 1+n), "health", "none"))
				if err != nil && t.Context().Err() == nil {
					t.Error(err)
				}
				r.note(id, got)
				select {
				case <-time.After(pause):
				case <-over:
					return
				}
			}
		})
	}
	r.stop = sync.OnceFunc(func() {
		close(over)
		running.Wait()
	})
	t.Cleanup(r.stop)
	return r
}

func (r *registrations) note(id string, got answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch got.status {
	case http.StatusCreated:
		r.acked[id] = time.Now()
	default:
		r.refused++
		r.last = got
	}
}

func (r *registrations) counts() (acked, refused int, last answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.acked), r.refused, r.last
}

// TestAFailoverLosesNoMoreThanWhatWasAcknowledgedWithinTheLag cuts a primary off from its replica, while
// Rollcall still reaches the primary, and promotes the replica.
func TestAFailoverLosesNoMoreThanWhatWasAcknowledgedWithinTheLag(t *testing.T) {
	t.Parallel()
	machine := harness.WatchStalls(t)
	p := newPair(t, "--min-replicas-to-write", "1", "--min-replicas-max-lag", fmt.Sprint(maxLag.Seconds()))
	k := stackOn(t, p.primary)
	k.Process("cron")
	_, a := k.web()
	doctorSays(t, k, "", "replicas")
	r := register(t, a)
	harness.Eventually(t, func() error { return r.atLeast(20) })

	p.link.Cut()
	cut := time.Now()
	harness.Eventually(t, func() error {
		if _, refused, _ := r.counts(); refused == 0 {
			return errors.New("all registrations are acknowledged")
		}
		return nil
	})
	_, _, last := r.counts()
	if last.status != http.StatusServiceUnavailable || !strings.Contains(last.problem(t).Detail, "min-replicas-to-write") || last.header.Get("Retry-After") == "" {
		t.Errorf("the refused registration got %v %s", last.header, last)
	}
	harness.Eventually(t, func() error {
		got := a.once(http.MethodGet, "/readyz", nil)
		if got.status != http.StatusServiceUnavailable || !strings.Contains(got.problem(t).Detail, "min-replicas-to-write") {
			return fmt.Errorf("readyz: %s", got)
		}
		return nil
	})
	if got := a.once(http.MethodGet, "/v1/services", nil); got.status != http.StatusOK {
		t.Errorf("a read got %s", got)
	}
	doctorSays(t, k, "the primary refuses to write: it reaches 0 replicas in time, and min-replicas-to-write asks for 1", "")
	acked, _, _ := r.counts()
	throughout(t, 2*time.Second, func() error {
		if now, _, _ := r.counts(); now > acked {
			return fmt.Errorf("%d registrations were acknowledged after the primary began to refuse them", now-acked)
		}
		return nil
	})
	r.stop()

	lost := r.lostOn(t, p.replica)
	t.Logf("%d registrations were acknowledged, the replica lacks %d, the last one of %s after the cut", acked, len(lost), latest(lost).Sub(cut))
	for id, at := range lost {
		if after := at.Sub(cut); after > lossBound+machine.Slack() {
			t.Errorf("%s was acknowledged %s after the cut, and is lost; want %s at most", id, after, lossBound)
		}
	}

	p.link.Lead(p.primary.Addr())
	host, port, _ := net.SplitHostPort(p.link.Addr())
	if err := p.replica.Client(t).ReplicaOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	a.ready()
	a.register(form("id", "afterwards", "service", "s", "address", "10.0.0.9:1", "health", "none"))
}

// The same with Redis's defaults: the primary acknowledges for as long as it runs.
func TestDoctorReportsAPrimaryThatWritesWithoutItsReplicas(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	k := stackOn(t, p.primary)
	k.Process("cron")
	_, a := k.web()
	doctorSays(t, k, "the primary has 1 replicas and 0 sentinels, and writes even if it reaches no replica", "")
	r := register(t, a)
	harness.Eventually(t, func() error { return r.atLeast(20) })
	p.link.Cut()
	cut := time.Now()
	throughout(t, lossBound+2*time.Second, func() error {
		_, _, last := r.counts()
		if strings.Contains(last.body, "replicas") {
			return fmt.Errorf("a registration was refused: %s", last)
		}
		return nil
	})
	r.stop()
	if got := a.call(http.MethodGet, "/readyz", nil); got.status != http.StatusOK {
		t.Errorf("readyz: %s", got)
	}
	lost := r.lostOn(t, p.replica)
	t.Logf("%d registrations were acknowledged, the replica lacks %d, the last one of %s after the cut", len(r.acked), len(lost), latest(lost).Sub(cut))
	if latest(lost).Sub(cut) < lossBound {
		t.Error("no more is lost than with the setting: the link was not cut")
	}
}

func (r *registrations) atLeast(n int) error {
	if acked, _, last := r.counts(); acked < n {
		return fmt.Errorf("%d registrations are acknowledged; the last refusal is %s", acked, last)
	}
	return nil
}

// lostOn promotes a replica, and returns the times of the acknowledged registrations that it lacks.
func (r *registrations) lostOn(t *testing.T, replica *harness.Server) map[string]time.Time {
	t.Helper()
	rdb := replica.Client(t)
	if err := rdb.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	lost := map[string]time.Time{}
	for id, at := range r.acked {
		n, err := rdb.Exists(t.Context(), "rollcall:instance:"+id).Result()
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			lost[id] = at
		}
	}
	return lost
}

func latest(times map[string]time.Time) (last time.Time) {
	for _, at := range times {
		if at.After(last) {
			last = at
		}
	}
	return last
}

// doctorSays checks that rollcall doctor prints one text and does not print another.
func doctorSays(t *testing.T, k *stack, want, not string) {
	t.Helper()
	_, out, log := harness.Run(t, k.Env, "doctor")
	if !strings.Contains(out, want) || not != "" && strings.Contains(out, not) {
		t.Errorf("doctor prints\n%s%s\nwant %q and not %q", out, log, want, not)
	}
}
