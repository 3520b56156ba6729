package redisstore

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
	"rollcall/app/redisstore/storetest"
)

// TestARecordKeepsEveryField changes each field of an instance in turn.
func TestARecordKeepsEveryField(t *testing.T) {
	t.Parallel()
	for path, i := range storetest.Changed() {
		doc, err := encode(i, i.Rev)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(i.ID, doc)
		want := i
		want.AssertedAt = time.Time{}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("with another %s: %v (-want +got):\n%s", path, err, diff)
		}
		if left := storetest.FieldTag(path, "record") == "-"; left != (path == "AssertedAt") {
			t.Errorf("%s: the tag record does not agree with this test", path)
		}
	}
}

// TestARecordOfAZeroFieldReadsAsZero leaves an instance without optional fields unchanged.
func TestARecordOfAZeroFieldReadsAsZero(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_000)
	want := app.Instance{
		Rev: 1, ID: "a", Service: "web", Address: "10.0.0.7:80", Weight: 1, FailOpen: true, Check: app.DefaultCheck(app.TCP), State: app.Starting,
		RegisteredAt: at, ChangedAt: at,
	}
	doc, err := encode(want, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decode("a", doc); cmp.Diff(want, got) != "" || err != nil {
		t.Errorf("%s reads as %+v, %v", doc, got, err)
	}
}
