package app_test

import (
	"errors"
	"fmt"
	"testing"

	"rollcall/app"
)

func TestErrors(t *testing.T) {
	t.Parallel()
	sentinels := []error{app.ErrInvalid, app.ErrNotFound, app.ErrConflict, app.ErrGone, app.ErrClaimLost, app.ErrUnavailable}
	for _, c := range []struct {
		err  error
		is   error
		text string
	}{
		{&app.FieldError{Field: "rise", Problem: "is 0", Want: "give 1"}, app.ErrInvalid, "rise is 0; give 1"},
		{&app.FieldError{Field: "rise", Problem: "is 0"}, app.ErrInvalid, "rise is 0"},
		{&app.FieldError{Field: "host", Problem: "is taken", Held: true}, app.ErrConflict, "host is taken"},
		{&app.TrimmedError{First: "5-1"}, app.ErrGone, "events before 5-1 are no longer kept: begin there, or read everything anew"},
		{&app.TakenError{What: "host", Value: "a.test", Holder: "web"}, app.ErrConflict, "host a.test belongs to web"},
	} {
		if c.err.Error() != c.text {
			t.Errorf("%q, want %q", c.err, c.text)
		}
		wrapped := fmt.Errorf("register web: %w", c.err)
		for _, sentinel := range sentinels {
			if got, want := errors.Is(wrapped, sentinel), errors.Is(sentinel, c.is); got != want {
				t.Errorf("%q is %q: %t, want %t", c.err, sentinel, got, want)
			}
		}
	}
}
