package handlers

import (
	"encoding/json"
	"testing"

	"rollcall/app"
	"rollcall/tests/apptest"
)

// TestAViewShowsEveryField changes each field of an instance in turn.
func TestAViewShowsEveryField(t *testing.T) {
	t.Parallel()
	view := func(i app.Instance) string {
		doc, err := json.Marshal(instanceOf(i))
		if err != nil {
			t.Fatal(err)
		}
		return string(doc)
	}
	full := view(apptest.Full())
	for path, i := range apptest.Changed() {
		if path == "DrainPeriod" {
			continue // only draining instances have it
		}
		if hidden := apptest.FieldTag(path, "view") == "-"; hidden != (view(i) == full) {
			t.Errorf("%s: hidden %t, and with another value the view is %s", path, hidden, view(i))
		}
	}
}
