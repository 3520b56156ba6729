package redisstore_test

import (
	"regexp"
	"testing"

	"rollcall/app"
)

// TestStatusesOfACheckAreStored verifies two rules. Documents of older versions, which have only min and max, keep their
// meaning. One range is stored in the form of older versions.
func TestStatusesOfACheckAreStored(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, c := range []struct {
		statuses app.Statuses
		stored   string // in the check; empty if it is omitted
	}{
		{"200-399", ""},
		{"204", `"min":204,"max":204`},
		{"200-299", `"max":299`},
		{"404-410", `"min":404,"max":410`},
		{"200-299,401", `"statuses":"200-299,401"`},
	} {
		i := s.up(t, 1, func(r *app.Registration) { r.Health, r.Expect = "/", []string{string(c.statuses)} })
		if got := s.get(t, i.ID).Check; got != i.Check || got.Statuses != c.statuses {
			t.Errorf("%q is read as %q", c.statuses, got.Statuses)
		}
		doc, _ := s.do(t, "GET ~instance:"+i.ID).(string)
		if got := regexp.MustCompile(`"(min|max|statuses)":("[^"]*"|\d+)(,"max":\d+)?`).FindString(doc); got != c.stored {
			t.Errorf("%q is stored as %s, want %s", c.statuses, got, c.stored)
		}
	}
}
