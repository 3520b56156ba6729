package app_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rollcall/app"
)

func TestRevisionCompare(t *testing.T) {
	t.Parallel()
	for _, ascending := range [][]app.Revision{
		{"", "0-1", "0-2", "0-10", "1-0", "9-99", "10-0", "1700000000000-0", "1700000000000-9", "1700000000000-10", "1700000000001-0"},
		{"0-0", "18446744073709551615-0", "18446744073709551615-18446744073709551615"}, // the last one there is
		{"1700000000000-3", "1700000000001"}, // Redis takes an id without its number, too
	} {
		for n, a := range ascending {
			for m, b := range ascending {
				want := 0
				if n < m {
					want = -1
				} else if n > m {
					want = 1
				}
				if got := a.Compare(b); got != want {
					t.Errorf("%q compared with %q is %d, want %d", a, b, got, want)
				}
			}
		}
	}
}

func TestEqualRevisions(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]app.Revision{{"", "0-0"}, {"0-0", "0"}, {"5", "5-0"}, {"7-1", "7-1"}, {"nonsense", ""}} {
		if got := c[0].Compare(c[1]); got != 0 {
			t.Errorf("%q compared with %q is %d, want 0", c[0], c[1], got)
		}
	}
}

func TestRevisionValid(t *testing.T) {
	t.Parallel()
	for _, r := range []app.Revision{"0", "5", "0-0", "1700000000000-12", "18446744073709551615-18446744073709551615"} {
		if !r.Valid() {
			t.Errorf("%q is not a revision", r)
		}
	}
	for _, r := range []app.Revision{
		"", "-", "5-", "-5", "+5", "5-+1", "5-1-2", "5--1", " 5-1", "5-1 ", "5-1\n", "$", "*", "0x5-1", "5_0", "５-1", "now",
		"18446744073709551616-0", "0-18446744073709551616",
	} {
		if r.Valid() {
			t.Errorf("%q is a revision", r)
		}
	}
}

func TestRevisionsAreOrderedByTimeThenNumber(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ms, n := rapid.Uint64().Draw(t, "ms"), rapid.Uint64().Draw(t, "n")
		a := app.Revision(fmt.Sprintf("%d-%d", ms, n))
		b := a
		if rapid.Bool().Draw(t, "number") {
			b = app.Revision(fmt.Sprintf("%d-%d", ms, n/2))
		} else {
			b = app.Revision(fmt.Sprintf("%d-%d", ms/2, rapid.Uint64().Draw(t, "m")))
		}
		if ms == 0 || n == 0 {
			return
		}
		if a.Compare(b) != 1 || b.Compare(a) != -1 || a.Compare(a) != 0 {
			t.Errorf("%s compared with %s is %d, the other way %d", a, b, a.Compare(b), b.Compare(a))
		}
	})
}

func TestRevisionBefore(t *testing.T) {
	t.Parallel()
	for r, want := range map[app.Revision]app.Revision{
		"5-3": "5-2", "5-1": "5-0", "5-0": "4-18446744073709551615", "5": "4-18446744073709551615", "0-1": "0-0", "0-0": "0-0", "0": "0-0", "": "0-0",
	} {
		if got := r.Before(); got != want {
			t.Errorf("before %q is %q, want %q", r, got, want)
		}
	}
}

func TestRevisionsAreOfATime(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_123)
	r := app.RevisionAt(at.Add(time.Millisecond - 1))
	if r != "1700000000123-0" || !r.Time().Equal(at) || !r.Before().Time().Before(at) {
		t.Errorf("the first of %s is %s, which is of %s, and %s before it", at, r, r.Time(), r.Before())
	}
	if r := app.RevisionAt(time.Time{}); r != "0-0" {
		t.Errorf("the first one at no time is %s", r)
	}
}
