package redisstore_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app/diagnose"
)

// TestAProcessIsListedWhileItCalls has one process that calls, one that ends and one that is killed.
func TestAProcessIsListedWhileItCalls(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	is := func(host string) diagnose.Process {
		return diagnose.Process{Host: host, PID: 7, Roles: []string{"cron"}, Worker: "1-" + host, Version: "v2", Started: s.clock.Now().UTC()}
	}
	calls, ends, killed := is("calls"), is("ends"), is("killed")
	announce := func(processes ...diagnose.Process) {
		t.Helper()
		for _, p := range processes {
			if err := s.Announce(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(when string, processes ...diagnose.Process) {
		t.Helper()
		got, err := s.Processes(t.Context())
		if diff := cmp.Diff(processes, got); diff != "" || err != nil {
			t.Errorf("%s (-want +got), %v:\n%s", when, err, diff)
		}
	}
	announce(calls, ends, killed, calls)
	want("all have called", calls, ends, killed)
	if err := s.Withdraw(t.Context(), ends); err != nil {
		t.Fatal(err)
	}
	want("one has ended", calls, killed)
	s.clock.Pass(2 * time.Minute)
	announce(calls)
	want("one was silent for 2 minutes", killed, calls)
	s.clock.Pass(time.Minute)
	want("it was silent for 3 minutes", calls)
	announce(calls)
	if n := s.rdb.ZCard(t.Context(), s.prefix+"processes").Val(); n != 1 {
		t.Errorf("%d entries are stored, want one", n)
	}
	s.rdb.Set(t.Context(), s.prefix+"processes", "a string", 0)
	want("the key has another type")
}
