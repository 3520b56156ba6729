package view_test

import (
	"encoding/json"
	"testing"

	"rollcall/app"
	"rollcall/app/redisstore/storetest"
	"rollcall/handlers/view"
)

// TestAViewShowsEveryField changes each field of an instance in turn.
func TestAViewShowsEveryField(t *testing.T) {
	t.Parallel()
	text := func(i app.Instance) string {
		doc, err := json.Marshal(view.InstanceOf(i))
		if err != nil {
			t.Fatal(err)
		}
		return string(doc)
	}
	full := text(storetest.Full())
	for path, i := range storetest.Changed() {
		if path == "DrainPeriod" {
			continue // only draining instances have it
		}
		if hidden := storetest.FieldTag(path, "view") == "-"; hidden != (text(i) == full) {
			t.Errorf("%s: hidden %t, and with another value the view is %s", path, hidden, text(i))
		}
	}
}
