package redisstore_test

import (
	"testing"
	"time"

	"rollcall/app"
)

// A worker remembers what it has read. What it claims is nevertheless what is registered:
// here in the same millisecond, with the same revision.
func TestAClaimIsOfTheInstanceAsItIsNow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	claim := func() app.Instance {
		t.Helper()
		claims, err := s.Probes().Claim(t.Context(), s.clock.Now().Add(time.Hour), 10)
		if err != nil || len(claims) != 1 {
			t.Fatalf("%d claims, %v; want 1", len(claims), err)
		}
		if err := s.Probes().Settle(t.Context(), []app.Settlement{{Claim: claims[0], Due: claims[0].Due}}); err != nil {
			t.Fatal(err)
		}
		return claims[0].Instance
	}
	want := func(check app.Check, address string) {
		t.Helper()
		for range 2 { // read, then remembered
			if i := claim(); i.Check != check || i.Address != address {
				t.Errorf("claimed at %s with %+v, want %s with %+v", i.Address, i.Check, address, check)
			}
		}
	}
	first := s.register(t, saying(1)).Instance
	want(first.Check, "10.0.0.1:80")

	slower := s.register(t, saying(1, func(r *app.Registration) { r.Interval = new(time.Minute) })).Instance
	if slower.Rev == first.Rev {
		t.Fatalf("both are revision %d", slower.Rev)
	}
	want(slower.Check, "10.0.0.1:80")

	s.deregister(t, 1)
	s.register(t, saying(1))
	want(first.Check, "10.0.0.1:80")
	s.deregister(t, 1)
	again := s.register(t, saying(1, func(r *app.Registration) { r.Address = "10.0.0.9" })).Instance
	if again.Rev != first.Rev {
		t.Fatalf("the new one is revision %d, want %d", again.Rev, first.Rev)
	}
	want(first.Check, "10.0.0.9:80")
}

// Nobody is claimed for ever: what a worker remembers is let go.
func TestWhatIsNotClaimedIsForgotten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := range 3 {
		s.register(t, saying(n+1))
	}
	remembered := func() int {
		t.Helper()
		claims, err := s.Probes().Claim(t.Context(), s.clock.Now(), 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range claims {
			if err := s.Probes().Settle(t.Context(), []app.Settlement{{Claim: c, Due: s.clock.Now()}}); err != nil {
				t.Fatal(err)
			}
		}
		return s.Remembered()
	}
	if n := remembered(); n != 3 {
		t.Errorf("%d instances are remembered, want 3", n)
	}
	s.deregister(t, 2)
	for range 3 {
		s.clock.Pass(2 * time.Minute)
		remembered()
	}
	if n := remembered(); n != 2 {
		t.Errorf("%d instances are remembered after one is gone, want 2", n)
	}
}
