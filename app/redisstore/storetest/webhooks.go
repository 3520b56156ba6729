package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
	"rollcall/app/webhook"
)

// WebhookStore is the interface of a store of webhooks.
type WebhookStore interface {
	webhook.Store
	webhook.Outbox
	AppendEvent(ctx context.Context, e app.Event) (app.Revision, error)
}

// WebhookSubject is an empty store of webhooks under test.
type WebhookSubject struct {
	WebhookStore
	Clock *Clock
}

// WebhookContract checks the contract of a store of webhooks. open returns an empty one.
func WebhookContract(t *testing.T, open func(t *testing.T) WebhookSubject) {
	t.Helper()
	for name, claim := range map[string]func(*testing.T, WebhookSubject){
		"what was added is read":                  addedIsRead,
		"there are only so many":                  onlySoMany,
		"what is not there is not found":          missingWebhookIsNotFound,
		"an idle one is due when something is":    idleIsDueWhenSomethingIs,
		"a repetition does not hold up events":    repetitionDoesNotHoldUpEvents,
		"one worker at a time has it":             oneWorkerHasIt,
		"it is due when told":                     dueWhenTold,
		"how far it is is read":                   courseIsRead,
		"a paused one is nobody's":                pausedIsNobodys,
		"pausing one under way loses nothing":     pausedUnderWay,
		"resumed under way it stays one worker's": resumedUnderWay,
		"a settlement may pause":                  settlementPauses,
		"one replay at a time":                    oneReplayAtATime,
		"a replay comes at once":                  replayComesAtOnce,
		"the last attempts are kept":              attemptsAreKept,
		"a removed one is settled by nobody":      removedIsSettledByNobody,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claim(t, open(t))
		})
	}
}

func (s WebhookSubject) add(t *testing.T, id string) webhook.Webhook {
	t.Helper()
	w := webhook.Webhook{
		ID: id, URL: "http://receiver.test/" + id, Secret: "whsec_" + id, Format: webhook.SlackFormat, Headers: map[string]string{"Authorization": "Bearer x"}, Services: []string{"web", "db"},
		Kinds: []app.EventKind{app.EventHealthy}, Rate: 7, Description: "a <test>", CreatedAt: s.Clock.Now(),
	}
	if err := s.Add(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	return w
}

func (s WebhookSubject) hook(t *testing.T, id string) webhook.Webhook {
	t.Helper()
	w, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// happens appends an event.
func (s WebhookSubject) happens(t *testing.T) app.Revision {
	t.Helper()
	r, err := s.AppendEvent(t.Context(), app.Event{Kind: app.EventHealthy, At: s.Clock.Now(), Service: "web", Reason: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// take claims webhooks, and checks which ones the store hands out.
func (s WebhookSubject) take(t *testing.T, want ...string) []webhook.DeliveryClaim {
	t.Helper()
	claims, _, err := s.Claim(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range claims {
		got = append(got, c.Webhook.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("handed out (-want +got):\n%s", diff)
	}
	return claims
}

// settle completes a claim: the webhook has got every event up to r.
func (s WebhookSubject) settle(t *testing.T, c webhook.DeliveryClaim, r app.Revision, edits ...func(*webhook.Webhook)) {
	t.Helper()
	w := c.Webhook
	w.Cursor = r
	for _, edit := range edits {
		edit(&w)
	}
	if err := s.Complete(t.Context(), c, webhook.Delivery{Webhook: w}); err != nil {
		t.Fatal(err)
	}
}

func addedIsRead(t *testing.T, s WebhookSubject) {
	tip := s.happens(t)
	var want []webhook.Webhook
	for n := range 3 {
		w := s.add(t, fmt.Sprintf("w%d", 3-n))
		w.Cursor = tip
		want = append(want, w)
		s.Clock.Pass(time.Second)
	}
	got, err := s.List(t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("list: %v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(want[1], s.hook(t, want[1].ID)); diff != "" {
		t.Errorf("get (-want +got):\n%s", diff)
	}
	s.take(t)
	if err := s.Remove(t.Context(), want[1].ID); err != nil {
		t.Fatal(err)
	}
	got, err = s.List(t.Context())
	if len(got) != 2 || err != nil {
		t.Errorf("after one was removed: %v, %v, want two", got, err)
	}
}

func onlySoMany(t *testing.T, s WebhookSubject) {
	for n := range webhook.MaxWebhooks {
		s.add(t, fmt.Sprintf("w%d", n))
	}
	err := s.Add(t.Context(), webhook.Webhook{ID: "more"})
	field, ok := errors.AsType[*app.FieldError](err)
	if !ok || field.Field != "url" || !strings.Contains(field.Problem, fmt.Sprint(webhook.MaxWebhooks)) {
		t.Errorf("one more: %v, want the limit", err)
	}
	wantErr(t, "one more", err, app.ErrConflict)
	_, err = s.Get(t.Context(), "more")
	wantErr(t, "get it", err, app.ErrNotFound)
}

func missingWebhookIsNotFound(t *testing.T, s WebhookSubject) {
	ctx := t.Context()
	_, err := s.Get(ctx, "nobody")
	wantErr(t, "get", err, app.ErrNotFound)
	_, err = s.Attempts(ctx, "nobody")
	wantErr(t, "attempts", err, app.ErrNotFound)
	_, err = s.Pause(ctx, "nobody", "why", app.Event{Kind: app.EventPaused})
	wantErr(t, "pause", err, app.ErrNotFound)
	wantErr(t, "replay", s.Replay(ctx, "nobody", webhook.Replay{After: "1-0", Until: "2-0"}), app.ErrNotFound)
	wantErr(t, "remove", s.Remove(ctx, "nobody"), app.ErrNotFound)
	wantErr(t, "settle", s.Complete(ctx, webhook.DeliveryClaim{Webhook: webhook.Webhook{ID: "nobody"}, Token: "x"}, webhook.Delivery{Webhook: webhook.Webhook{ID: "nobody"}}), app.ErrClaimLost)
	if list, err := s.List(ctx); len(list) > 0 || err != nil {
		t.Errorf("list: %v, %v, want nothing", list, err)
	}
	if events, err := s.Events(ctx, "0", 10); len(events) > 0 || err != nil {
		t.Errorf("events: %v, %v, want none", events, err)
	}
}

func idleIsDueWhenSomethingIs(t *testing.T, s WebhookSubject) {
	s.add(t, "w1")
	s.take(t)
	s.Clock.Pass(time.Hour)
	s.take(t)
	first := s.happens(t)
	c := s.take(t, "w1")[0]
	s.settle(t, c, first)
	s.take(t)
	s.happens(t)
	c = s.take(t, "w1")[0]
	last := s.happens(t) // during the delivery of the one before
	s.settle(t, c, first)
	c = s.take(t, "w1")[0]
	s.settle(t, c, last)
	s.take(t)
}

func repetitionDoesNotHoldUpEvents(t *testing.T, s WebhookSubject) {
	due := s.Clock.Now().Add(time.Second)
	if err := s.Add(t.Context(), webhook.Webhook{ID: "w1", Format: webhook.AlertmanagerFormat, Due: due, CreatedAt: s.Clock.Now()}); err != nil {
		t.Fatal(err)
	}
	s.take(t)
	s.Clock.Pass(time.Second)
	next := s.Clock.Now().Add(time.Minute)
	waits := func(w *webhook.Webhook) { w.Repeated, w.Due = s.Clock.Now(), next }
	s.settle(t, s.take(t, "w1")[0], "0-0", waits)
	s.take(t)
	r := s.happens(t)
	c := s.take(t, "w1")[0]
	s.happens(t)
	s.take(t) // it is claimed
	s.settle(t, c, r, waits, func(w *webhook.Webhook) { w.Failures, w.Failing = 1, s.Clock.Now() })
	s.take(t) // its receiver fails: an event does not move the next attempt
	s.Clock.Pass(time.Minute)
	s.take(t, "w1")
}

func oneWorkerHasIt(t *testing.T, s WebhookSubject) {
	s.add(t, "w1")
	s.happens(t)
	stale := s.take(t, "w1")[0]
	s.take(t)
	s.Clock.Pass(webhook.DeliveryLease - time.Millisecond)
	_, next, err := s.Claim(t.Context(), 10)
	if want := s.Clock.Now().Add(time.Millisecond); err != nil || !next.Equal(want) {
		t.Errorf("the next is due at %s, %v, want %s, when the lease is over", next, err, want)
	}
	s.Clock.Pass(time.Millisecond)
	c := s.take(t, "w1")[0]
	if diff := cmp.Diff(stale.Webhook, c.Webhook); diff != "" {
		t.Errorf("claimed again (-first +second):\n%s", diff)
	}
	moved := stale.Webhook
	moved.Cursor = "1-1"
	wantErr(t, "settle the lost claim", s.Complete(t.Context(), stale, webhook.Delivery{Webhook: moved, Attempt: &webhook.Attempt{}}), app.ErrClaimLost)
	if got := s.hook(t, "w1").Cursor; got != c.Webhook.Cursor {
		t.Errorf("the cursor is %s after a stale claim was settled, want %s", got, c.Webhook.Cursor)
	}
	if attempts, err := s.Attempts(t.Context(), "w1"); len(attempts) > 0 || err != nil {
		t.Errorf("attempts: %v, %v, want none", attempts, err)
	}
	s.settle(t, c, "2-2")
	wantErr(t, "settle twice", s.Complete(t.Context(), c, webhook.Delivery{Webhook: moved}), app.ErrClaimLost)
}

func dueWhenTold(t *testing.T, s WebhookSubject) {
	for n, id := range []string{"w1", "w2", "w3"} {
		s.add(t, id)
		s.happens(t)
		due := s.Clock.Now().Add(time.Duration(n+1) * time.Minute)
		s.settle(t, s.take(t, id)[0], "1-1", func(w *webhook.Webhook) { w.Due = due })
		if got := s.hook(t, id).Due; !got.Equal(due) {
			t.Errorf("%s is due at %s, want %s", id, got, due)
		}
	}
	s.take(t) // despite events that they have not got
	s.Clock.Pass(time.Minute)
	s.take(t, "w1")
	s.Clock.Pass(2 * time.Minute)
	claims, _, err := s.Claim(t.Context(), 1)
	if err != nil || len(claims) != 1 {
		t.Errorf("of those that are due one was asked for: got %v, %v", claims, err)
	}
}

func courseIsRead(t *testing.T, s WebhookSubject) {
	want := s.add(t, "w1")
	s.happens(t)
	now := s.Clock.Now()
	want.Cursor, want.Minute, want.Told, want.Failures, want.Failing, want.Due = "5-6", now, 3, 4, now.Add(time.Second), now.Add(time.Minute)
	want.Repeated = now.Add(-time.Second)
	s.settle(t, s.take(t, "w1")[0], "", func(w *webhook.Webhook) { *w = want })
	if diff := cmp.Diff(want, s.hook(t, "w1")); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	s.Clock.Pass(time.Minute)
	c := s.take(t, "w1")[0]
	want.Due = time.Time{}
	if diff := cmp.Diff(want, c.Webhook); diff != "" {
		t.Errorf("claimed (-want +got):\n%s", diff)
	}
	want.Failures, want.Failing = 0, time.Time{}
	want.Cursor = s.happens(t)
	s.settle(t, c, "", func(w *webhook.Webhook) { *w = want })
	if diff := cmp.Diff(want, s.hook(t, "w1")); diff != "" {
		t.Errorf("read when it works again (-want +got):\n%s", diff)
	}
}

// told lists the events of webhooks, as "webhook-paused w1: why, ...".
func (s WebhookSubject) told(t *testing.T) string {
	t.Helper()
	events, err := s.Events(t.Context(), "0", 100)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		if e.Subject != "" {
			out = append(out, fmt.Sprintf("%s %s: %s", e.Kind, e.Subject, e.Reason))
		}
	}
	return strings.Join(out, ", ")
}

// pause pauses or resumes, which has to change something or not.
func (s WebhookSubject) pause(t *testing.T, id, reason string, changes bool) {
	t.Helper()
	e := app.Event{Kind: app.EventPaused, At: s.Clock.Now(), Subject: id, Reason: reason}
	if reason == "" {
		e.Kind, e.Reason = app.EventResumed, "again"
	}
	changed, err := s.Pause(t.Context(), id, reason, e)
	if err != nil || changed != changes {
		t.Fatalf("pause %q: changed is %v, %v, want %v", reason, changed, err, changes)
	}
}

func pausedIsNobodys(t *testing.T, s WebhookSubject) {
	s.add(t, "w1")
	s.add(t, "w2")
	s.pause(t, "w1", "", false)
	s.pause(t, "w1", "why", true)
	s.pause(t, "w1", "another", false)
	if got := s.hook(t, "w1").Paused; got != "why" {
		t.Errorf("it is paused because %q, want why", got)
	}
	c := s.take(t, "w2")[0]
	failing := s.Clock.Now()
	s.settle(t, c, c.Webhook.Cursor, func(w *webhook.Webhook) { w.Failures, w.Failing, w.Due = 3, failing, failing.Add(time.Hour) })
	s.pause(t, "w2", "it fails", true)
	s.Clock.Pass(2 * time.Hour)
	s.take(t)
	s.pause(t, "w2", "", true)
	if w := s.hook(t, "w2"); w.Failures != 0 || !w.Failing.IsZero() {
		t.Errorf("resumed it has %d failures since %s", w.Failures, w.Failing)
	}
	s.take(t, "w2")
	s.pause(t, "w1", "", true)
	if c := s.take(t, "w1")[0]; c.Webhook.Paused != "" {
		t.Errorf("resumed it is %+v", c.Webhook)
	}
	want := "webhook-paused w1: why, webhook-paused w2: it fails, webhook-resumed w2: again, webhook-resumed w1: again"
	if got := s.told(t); got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

func pausedUnderWay(t *testing.T, s WebhookSubject) {
	s.add(t, "w1")
	r := s.happens(t)
	c := s.take(t, "w1")[0]
	s.pause(t, "w1", "why", true)
	s.settle(t, c, r, func(w *webhook.Webhook) { w.Due = s.Clock.Now() })
	if w := s.hook(t, "w1"); w.Cursor != r || w.Paused != "why" || !w.Due.IsZero() {
		t.Errorf("it is %+v, want it paused after %s", w, r)
	}
	s.Clock.Pass(time.Hour)
	s.take(t)

	// And when the worker is gone.
	s.pause(t, "w1", "", true)
	s.take(t, "w1")
	s.pause(t, "w1", "why", true)
	s.Clock.Pass(webhook.DeliveryLease)
	s.take(t)
	s.pause(t, "w1", "", true)
	s.take(t, "w1")
}

func resumedUnderWay(t *testing.T, s WebhookSubject) {
	s.add(t, "w1")
	s.happens(t)
	c := s.take(t, "w1")[0]
	s.pause(t, "w1", "why", true)
	s.pause(t, "w1", "", true)
	s.take(t)
	s.settle(t, c, "1-1", func(w *webhook.Webhook) { w.Due = s.Clock.Now() })
	s.take(t, "w1")
}

func settlementPauses(t *testing.T, s WebhookSubject) {
	s.add(t, "w1")
	s.happens(t)
	c := s.take(t, "w1")[0]
	w := c.Webhook
	w.Paused, w.Due = "it is gone", s.Clock.Now()
	event := app.Event{Kind: app.EventPaused, At: s.Clock.Now(), Subject: "w1", Reason: w.Paused}
	if err := s.Complete(t.Context(), c, webhook.Delivery{Webhook: w, Event: &event}); err != nil {
		t.Fatal(err)
	}
	s.take(t)
	if got, want := s.told(t), "webhook-paused w1: it is gone"; got != want || s.hook(t, "w1").Paused != "it is gone" {
		t.Errorf("told %q, want %q", got, want)
	}
	s.pause(t, "w1", "", true)
	s.take(t, "w1")
}

func oneReplayAtATime(t *testing.T, s WebhookSubject) {
	s.add(t, "w1")
	r, other := webhook.Replay{After: "1-0", Until: "9-0"}, webhook.Replay{After: "2-0", Until: "3-0"}
	if err := s.Replay(t.Context(), "w1", r); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "another", s.Replay(t.Context(), "w1", other), app.ErrConflict)
	if got := s.hook(t, "w1").Replay; got != r {
		t.Errorf("it is at %v, want %v", got, r)
	}
	c := s.take(t, "w1")[0]
	if c.Webhook.Replay != r {
		t.Errorf("claimed with %v, want %v", c.Webhook.Replay, r)
	}
	further := webhook.Replay{After: "5-0", Until: "9-0"}
	s.settle(t, c, c.Webhook.Cursor, func(w *webhook.Webhook) { w.Replay, w.Due = further, s.Clock.Now() })
	if got := s.hook(t, "w1").Replay; got != further {
		t.Errorf("it is at %v, want %v", got, further)
	}
	c = s.take(t, "w1")[0]
	s.settle(t, c, c.Webhook.Cursor, func(w *webhook.Webhook) { w.Replay = webhook.Replay{} })
	if got := s.hook(t, "w1").Replay; got != (webhook.Replay{}) {
		t.Errorf("it is at %v, want it over", got)
	}
	s.take(t)
	if err := s.Replay(t.Context(), "w1", other); err != nil {
		t.Errorf("after the end of the first: %v", err)
	}
}

func replayComesAtOnce(t *testing.T, s WebhookSubject) {
	r := webhook.Replay{After: "1-0", Until: "9-0"}
	s.add(t, "idle")
	if err := s.Replay(t.Context(), "idle", r); err != nil {
		t.Fatal(err)
	}
	s.take(t, "idle")

	s.add(t, "under way")
	tip := s.happens(t)
	c := s.take(t, "under way")[0]
	if err := s.Replay(t.Context(), "under way", r); err != nil {
		t.Fatal(err)
	}
	s.take(t)
	s.settle(t, c, tip) // by one that has not heard of it
	if got := s.hook(t, "under way").Replay; got != r {
		t.Errorf("it is at %v, want %v", got, r)
	}
	s.take(t, "under way")

	s.add(t, "failing")
	s.happens(t)
	s.settle(t, s.take(t, "failing")[0], "1-0", func(w *webhook.Webhook) {
		w.Failures, w.Failing, w.Due = 1, s.Clock.Now(), s.Clock.Now().Add(time.Second)
	})
	if err := s.Replay(t.Context(), "failing", r); err != nil {
		t.Fatal(err)
	}
	s.take(t) // not before its next attempt
	s.Clock.Pass(time.Second)
	s.take(t, "failing")
}

func attemptsAreKept(t *testing.T, s WebhookSubject) {
	s.add(t, "w1")
	s.happens(t)
	var want []webhook.Attempt
	for n := range webhook.KeptAttempts + 5 {
		c := s.take(t, "w1")[0]
		a := webhook.Attempt{
			Message: fmt.Sprintf("msg_%d", n), Kind: "healthy", Number: n + 1,
			Result: app.Result{At: s.Clock.Now(), Latency: 12 * time.Millisecond, Passed: n%2 == 0, Code: 503, Detail: `begins "no"`},
		}
		want = append([]webhook.Attempt{a}, want...)
		w := c.Webhook
		w.Due = s.Clock.Now()
		if err := s.Complete(t.Context(), c, webhook.Delivery{Webhook: w, Attempt: &a}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Attempts(t.Context(), "w1")
	if diff := cmp.Diff(want[:webhook.KeptAttempts], got); diff != "" || err != nil {
		t.Errorf("kept: %v (-want +got):\n%s", err, diff)
	}
}

func removedIsSettledByNobody(t *testing.T, s WebhookSubject) {
	s.add(t, "w1")
	r := s.happens(t)
	c := s.take(t, "w1")[0]
	if err := s.Remove(t.Context(), "w1"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "settle", s.Complete(t.Context(), c, webhook.Delivery{Webhook: c.Webhook, Attempt: &webhook.Attempt{}}), app.ErrClaimLost)
	_, err := s.Get(t.Context(), "w1")
	wantErr(t, "get", err, app.ErrNotFound)
	s.Clock.Pass(time.Hour)
	s.take(t)
	s.add(t, "w1")
	if attempts, err := s.Attempts(t.Context(), "w1"); len(attempts) > 0 || err != nil || s.hook(t, "w1").Cursor != r {
		t.Errorf("added again: attempts %v, %v, want none", attempts, err)
	}
}
