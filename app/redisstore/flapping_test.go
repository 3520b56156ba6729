package redisstore_test

import (
	"strings"
	"testing"
	"time"

	"rollcall/app"
)

// TestAFlappingInstanceWaitsOnlyWhileItCanBeSpared makes web-1 flap, with and without a vhost.
func TestAFlappingInstanceWaitsOnlyWhileItCanBeSpared(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*app.Registration){
		"with a vhost":    func(*app.Registration) {},
		"without a vhost": func(r *app.Registration) { r.Hosts = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			state := func(id string, want app.State) {
				t.Helper()
				if is := s.get(t, id); is.State != want {
					t.Fatalf("%s is %s with %d falls and a streak of %d, want %s", id, is.State, is.Falls, is.Streak, want)
				}
			}
			for n := 1; n <= 4; n++ {
				s.up(t, n, edit)
			}
			s.check(t, "i1", "--++") // a first fall costs no wait
			state("i1", app.Healthy)
			s.check(t, "i1", "--++")
			state("i1", app.Unhealthy)
			s.clock.Pass(9 * time.Second)
			s.check(t, "i1", "+")
			state("i1", app.Unhealthy)
			s.clock.Pass(time.Second)
			s.check(t, "i1", "+")
			state("i1", app.Healthy)

			s.check(t, "i1", "--++")
			s.check(t, "i2", "--")
			s.check(t, "i1", "+")
			state("i1", app.Unhealthy) // two of four are routable
			s.register(t, saying(5, edit))
			if _, _, err := s.verbs.Drain(t.Context(), "i5", "", time.Minute); err != nil {
				t.Fatal(err)
			}
			s.check(t, "i1", "+")
			state("i1", app.Unhealthy) // a draining one does not count
			s.check(t, "i3", "--")
			s.check(t, "i1", "+")
			state("i1", app.Healthy) // one of four was routable
			if got := s.events(t); !strings.HasSuffix(got, "unhealthy i3, healthy i1") {
				t.Errorf("events %q", got)
			}

			s.check(t, "i2", "++")
			s.check(t, "i3", "++")
			s.check(t, "i1", "--++")
			state("i1", app.Unhealthy)
			s.register(t, saying(1, edit, func(r *app.Registration) { r.Boot = "another" }))
			s.check(t, "i1", "++")
			state("i1", app.Healthy) // a new start begins without falls
		})
	}
}
