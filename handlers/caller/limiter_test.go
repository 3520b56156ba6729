package caller_test

import (
	"testing"
	"testing/synctest"
	"time"

	"rollcall/handlers/caller"
	"rollcall/handlers/input"
)

// burst is the number of registrations that a caller may make at once, with a limit of one a second.
const burst = input.MaxEntries

func TestARefusedCallCountsNoRegistrations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &caller.Limiter{PerSecond: 1}
		if err := l.Admit("a", burst); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if err := l.Admit("a", 2); err == nil {
				t.Fatal("more than the burst was admitted")
			}
		}
		time.Sleep(2 * time.Second)
		if err := l.Admit("a", 2); err != nil {
			t.Errorf("after two seconds: %v, want the refused calls not to count", err)
		}
	})
}

func TestACallerThatExceedsItsRateIsNotForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &caller.Limiter{PerSecond: 1}
		if err := l.Admit("a", burst); err != nil {
			t.Fatal(err)
		}
		time.Sleep(61 * time.Second) // the next call removes the callers with a full bucket
		if err := l.Admit("b", 1); err != nil {
			t.Fatal(err)
		}
		if err := l.Admit("a", burst); err == nil {
			t.Error("a caller was admitted a burst again after 61 of the seconds that it needs")
		}
	})
}
