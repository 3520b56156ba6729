package app_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
	"rollcall/app/redisstore/storetest"
)

// TestARegistrationSetsAndComparesItsFields changes each field of an instance in turn.
func TestARegistrationSetsAndComparesItsFields(t *testing.T) {
	t.Parallel()
	full := storetest.Full()
	for path, changed := range storetest.Changed() {
		registered := storetest.FieldTag(path, "from") == "registration"
		if got := app.SameFields(full, changed); got == registered {
			t.Errorf("another %s: the registration is the same: %t", path, got)
		}
		want := full
		if registered {
			want = changed
		}
		if diff := cmp.Diff(want, app.With(full, changed)); diff != "" {
			t.Errorf("a registration with another %s (-want +got):\n%s", path, diff)
		}
	}
}
