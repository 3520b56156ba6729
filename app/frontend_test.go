package app_test

import (
	"testing"

	"rollcall/app"
)

func TestSlotRouted(t *testing.T) {
	t.Parallel()
	for _, s := range []app.Slot{{}, {Foreign: true}, {Marked: true}, {Foreign: true, Marked: true}} {
		if s.Routed() == s.Marked {
			t.Errorf("%+v: routed %t", s, s.Routed())
		}
	}
}

func TestRepairsNone(t *testing.T) {
	t.Parallel()
	if r := (app.Repairs{}); !r.None() {
		t.Errorf("%+v is something", r)
	}
	for _, r := range []app.Repairs{{Lists: 1}, {WrongType: []string{"a"}}, {Instances: []string{"a"}}, {Orphans: []string{"a"}}} {
		if r.None() {
			t.Errorf("%+v is nothing", r)
		}
	}
}
