package redisstore_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"rollcall/app"
	"rollcall/tests/harness"
)

func TestEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	events := func(after app.Revision, limit int) []app.Revision {
		t.Helper()
		got, err := s.Events(t.Context(), after, limit)
		if err != nil {
			t.Fatalf("after %s: %v", after, err)
		}
		var ids []app.Revision
		for _, e := range got {
			ids = append(ids, e.Revision)
		}
		return ids
	}
	if got := events("0", 10); got != nil {
		t.Errorf("before anything happened: got %v", got)
	}
	var all []app.Revision
	for n := range 5 {
		all = append(all, s.register(t, saying(n+1)).Revision)
	}
	for _, c := range []struct {
		after app.Revision
		limit int
		want  []app.Revision
	}{
		{"0", 10, all},
		{"0-0", 10, all},
		{"0", 2, all[:2]},
		{all[0], 10, all[1:]},
		{all[1], 2, all[2:4]},
		{all[4], 10, nil},
	} {
		if got := events(c.after, c.limit); !slices.Equal(got, c.want) {
			t.Errorf("up to %d after %s: got %v, want %v", c.limit, c.after, got, c.want)
		}
	}

	lost := func(after app.Revision) {
		t.Helper()
		_, err := s.Events(t.Context(), after, 10)
		trimmed, ok := errors.AsType[*app.TrimmedError](err)
		if !ok || trimmed.Lost != after || !errors.Is(err, app.ErrGone) {
			t.Errorf("after %s, which is newer than every event: got %v, want that it is lost", after, err)
		}
	}
	lost("9999999999999-0")
	lost("9999999999999")
	defer func() { // FLUSHALL for this registry
		s.rdb.Del(t.Context(), s.prefix+"events")
		lost(all[4])
	}()

	if err := s.rdb.XTrimMaxLen(t.Context(), s.prefix+"events", 2).Err(); err != nil {
		t.Fatal(err)
	}
	for _, after := range []app.Revision{all[0], all[1], "1", "0-1"} {
		_, err := s.Events(t.Context(), after, 10)
		trimmed, ok := errors.AsType[*app.TrimmedError](err)
		if !ok || trimmed.First != all[3] || !errors.Is(err, app.ErrGone) {
			t.Errorf("after %s, which is cut off: got %v, want to hear that it begins at %s", after, err, all[3])
		}
	}
	if got := events("0", 10); !slices.Equal(got, all[3:]) {
		t.Errorf("all that is kept: got %v", got)
	}
	if got, err := s.Events(t.Context(), all[3], 10); err != nil || len(got) != 1 || got[0].Kind != app.EventRegistered ||
		got[0].Instance != "i5" || got[0].Reason != "first registration" || fmt.Sprint(got[0].At.Unix()) != fmt.Sprint(s.clock.Now().Unix()) {
		t.Errorf("the last one: got %+v, %v", got, err)
	}
}

func TestAFollowerHasTheEventsBeforeItsStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var want []app.Revision
	for n := range 5 {
		want = append([]app.Revision{s.register(t, saying(n+1)).Revision}, want...)
	}
	rep := s.follow(t)
	harness.Await(t, "it has read the registry", func() bool { return rep.Revision() == want[0] })
	var got []app.Revision
	for _, e := range rep.Latest("", 10, func(app.Event) bool { return true }) {
		got = append(got, e.Revision)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
