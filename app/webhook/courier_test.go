package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"rollcall/app"
	"rollcall/app/redisstore/storetest"
	"rollcall/app/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwABCDEFGH"

// post is a request to a receiver.
type post struct {
	at      time.Time
	webhook string // the URL's path
	id      string
	text    string
	body    struct { // of the format event
		Type     string
		Replayed bool
		Data     struct {
			ID, Kind, Service, Instance, Subject, Reason string
			Events                                       int
			First, Last, Replay, After, Before           string
			Counts                                       []struct {
				Service, Kind string
				Events        int
			}
		}
	}
}

// bubble is a courier with its outbox and its receivers in a synctest bubble.
type bubble struct {
	t      *testing.T
	outbox *storetest.MemWebhooks
	sender *webhook.Sender
	began  time.Time

	firing []app.Event // the alerts that are firing

	mu     sync.Mutex
	posts  []post
	answer func(post) (status int, header string) // nil: 200
}

// inBubble runs a test with a working courier, unless the test starts its own.
func inBubble(t *testing.T, test func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		b.work()
		test(b)
	})
}

func newBubble(t *testing.T) *bubble {
	b := &bubble{t: t, outbox: storetest.NewMemWebhooks(time.Now), sender: webhook.NewSender(nil, time.Now), began: time.Now()}
	b.sender.SetTransport(b)
	return b
}

func (b *bubble) courier() *webhook.Courier {
	return webhook.NewCourier(b.outbox, b.sender, func(context.Context) ([]app.Event, error) { return b.firing, nil }, time.Now, func(context.Context, webhook.Delivery) {}, slog.New(slog.DiscardHandler))
}

// work runs a courier until the test ends.
func (b *bubble) work() {
	courier := b.courier()
	ctx, stop := context.WithCancel(b.t.Context())
	var working sync.WaitGroup
	working.Go(func() { courier.Work(ctx) })
	b.t.Cleanup(func() {
		stop()
		working.Wait()
	})
}

// RoundTrip answers for the receivers.
func (b *bubble) RoundTrip(r *http.Request) (*http.Response, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err == nil {
		err = verifier.Verify(text, r.Header)
	}
	if err != nil {
		b.t.Errorf("%s: %v", text, err)
	}
	p := post{at: time.Now(), webhook: strings.Trim(r.URL.Path, "/"), id: r.Header.Get("webhook-id"), text: string(text)}
	_ = json.Unmarshal(text, &p.body)
	b.mu.Lock()
	b.posts = append(b.posts, p)
	decide := b.answer
	b.mu.Unlock()
	answer := &http.Response{StatusCode: 200, Body: http.NoBody, Header: http.Header{}, Request: r}
	if decide != nil {
		var wait string
		if answer.StatusCode, wait = decide(p); wait != "" {
			answer.Header.Set("Retry-After", wait)
		}
	}
	return answer, nil
}

// answers sets the answer of receivers.
func (b *bubble) answers(answer func(post) (int, string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func status(n int) func(post) (int, string) { return func(post) (int, string) { return n, "" } }

// got waits until all goroutines are idle, and returns the posts to a receiver since the last call.
func (b *bubble) got(id string) []post {
	b.t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	var posts []post
	b.posts = slices.DeleteFunc(b.posts, func(p post) bool {
		if p.webhook == id {
			posts = append(posts, p)
		}
		return p.webhook == id
	})
	return posts
}

// add adds a webhook.
func (b *bubble) add(id string, edits ...func(*webhook.Webhook)) {
	b.t.Helper()
	w := webhook.Webhook{ID: id, URL: "http://receiver.test/" + id, Secret: secret, Format: webhook.EventFormat, Rate: webhook.DefaultRate, CreatedAt: time.Now()}
	for _, edit := range edits {
		edit(&w)
	}
	if err := b.outbox.Add(b.t.Context(), w); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bubble) hook(id string) webhook.Webhook {
	b.t.Helper()
	w, err := b.outbox.Get(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return w
}

// happens appends events of instances of web that become unhealthy, with a pause after each.
func (b *bubble) happens(n int, apart time.Duration) []app.Revision {
	b.t.Helper()
	var all []app.Revision
	for i := range n {
		all = append(all, b.tell(app.Event{Kind: app.EventUnhealthy, Service: "web", Instance: fmt.Sprintf("web-%d", i), Reason: "refused"}))
		time.Sleep(apart)
	}
	return all
}

func (b *bubble) tell(e app.Event) app.Revision {
	b.t.Helper()
	e.At = time.Now()
	r, err := b.outbox.AppendEvent(b.t.Context(), e)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// wantEvents checks that posts are the events, one by one and in order.
func wantEvents(t *testing.T, what string, posts []post, events []app.Revision) {
	t.Helper()
	var got, want []string
	for _, p := range posts {
		got = append(got, p.id)
	}
	for _, r := range events {
		want = append(want, "msg_"+string(r))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestEventsOfTheFilterArriveInOrder(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.happens(3, 0) // before the webhook exists
		b.add("all")
		b.add("db", func(w *webhook.Webhook) { w.Services = []string{"db"} })
		b.add("draining", func(w *webhook.Webhook) { w.Kinds = []app.EventKind{app.EventDraining, app.EventGone} })
		web := b.happens(5, time.Second)
		db := b.tell(app.Event{Kind: app.EventHealthy, Service: "db", Instance: "db-1"})
		gone := b.tell(app.Event{Kind: app.EventGone, Service: "web", Instance: "web-1"})
		time.Sleep(10 * time.Second)
		wantEvents(b.t, "all", b.got("all"), append(slices.Clone(web), db, gone))
		wantEvents(b.t, "db", b.got("db"), []app.Revision{db})
		wantEvents(b.t, "draining", b.got("draining"), []app.Revision{gone})
		time.Sleep(time.Hour)
		wantEvents(b.t, "later", b.got("all"), nil)
	})
}

func TestAMessageIsSentUntilItIsAcceptedAndTheNextOnesWait(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.add("w")
		b.add("other")
		b.answers(func(p post) (int, string) {
			if p.webhook == "other" {
				return 200, ""
			}
			return 500, ""
		})
		events := b.happens(3, 0)
		time.Sleep(4 * time.Hour)
		wantEvents(b.t, "a receiver that works", b.got("other"), events)
		posts := b.got("w")
		for n, wait := range []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour} {
			if len(posts) < n+2 {
				b.t.Fatalf("%d attempts within 4 h", len(posts))
			}
			apart := posts[n+1].at.Sub(posts[n].at)
			if apart < wait*8/10 || apart > wait*12/10 || posts[n+1].id != "msg_"+string(events[0]) {
				b.t.Errorf("attempt %d at %s came after %s, want about %s", n+2, posts[n+1].id, apart, wait)
			}
		}
		w := b.hook("w")
		if w.Failures != len(posts) || !w.Failing.Equal(posts[0].at) {
			b.t.Errorf("it says %d failures since %s, want %d since %s", w.Failures, w.Failing, len(posts), posts[0].at)
		}
		b.answers(nil)
		time.Sleep(3 * time.Hour)
		wantEvents(b.t, "when it works again", b.got("w"), events)
		attempts, err := b.outbox.Attempts(b.t.Context(), "w")
		if w := b.hook("w"); w.Failures != 0 || !w.Failing.IsZero() || err != nil || len(attempts) != len(posts)+3 {
			b.t.Errorf("it is %+v after %d attempts, %v", w, len(attempts), err)
		}
		if a := attempts[2]; a.Number != len(posts)+1 || !a.Passed || attempts[3].Code != 500 {
			b.t.Errorf("the attempt that was taken is %+v", a)
		}
	})
}

func TestAReceiverThatFailsForADayIsPausedAndOthersAreInformed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.add("w")
		b.add("other")
		b.answers(func(p post) (int, string) {
			if p.webhook == "other" {
				return 200, ""
			}
			return 500, ""
		})
		events := b.happens(2, 0)
		time.Sleep(24 * time.Hour)
		if w := b.hook("w"); w.Paused != "" {
			b.t.Errorf("paused within the day: %s", w.Paused)
		}
		time.Sleep(3 * time.Hour)
		tries := len(b.got("w"))
		if w := b.hook("w"); !strings.Contains(w.Paused, "status 500") || tries < 15 || tries > 22 {
			b.t.Errorf("after a day and %d attempts it is paused because %q", tries, w.Paused)
		}
		time.Sleep(24 * time.Hour)
		wantEvents(b.t, "paused", b.got("w"), nil)
		posts := b.got("other")
		if n := len(posts); n != 3 || posts[2].body.Type != "webhook-paused" || posts[2].body.Data.Subject != "w" {
			b.t.Fatalf("the other one was told %+v, want of the pause at the end", posts)
		}

		b.answers(nil)
		if _, err := b.outbox.Pause(b.t.Context(), "w", "", app.Event{Kind: app.EventResumed, Subject: "w"}); err != nil {
			b.t.Fatal(err)
		}
		time.Sleep(time.Minute)
		wantEvents(b.t, "resumed", b.got("w"), events) // and no event about itself
	})
}

func TestAReceiverThatAnswers410IsPausedAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.add("w")
		b.answers(status(410))
		b.happens(2, 0)
		time.Sleep(time.Hour)
		if n := len(b.got("w")); n != 1 || !strings.Contains(b.hook("w").Paused, "410") {
			b.t.Errorf("%d attempts, then paused because %q", n, b.hook("w").Paused)
		}
	})
}

// If Rollcall's own outage lies between two failed attempts, its time does not count against the
// receiver.
func TestADayWithFewAttemptsIsNotADayOfFailing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		b.answers(status(500))
		b.add("w")
		b.work()
		b.happens(1, time.Minute)
		b.outbox.Down(true)
		time.Sleep(48 * time.Hour)
		b.outbox.Down(false)
		time.Sleep(time.Minute)
		if w := b.hook("w"); w.Paused != "" || w.Failures < 3 {
			t.Errorf("it has failed %d times and is paused because %q", w.Failures, w.Paused)
		}
	})
}

func TestRetryAfterCountsWithinLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		header string
		least  time.Duration
		most   time.Duration
	}{
		{429, "120", 2 * time.Minute, 2 * time.Minute},
		{503, "20", 20 * time.Second, 20 * time.Second},
		{503, "0", 800 * time.Millisecond, 1200 * time.Millisecond},
		{503, "-5", 800 * time.Millisecond, 1200 * time.Millisecond},
		{503, "nonsense", 800 * time.Millisecond, 1200 * time.Millisecond},
		{503, "99999999999", 800 * time.Millisecond, time.Hour},
		{429, "86400", time.Hour, time.Hour},
		{429, "Sat, 01 Jan 2000 00:02:00 GMT", 2 * time.Minute, 2 * time.Minute},
		{503, "Saturday, 01-Jan-00 00:00:20 GMT", 20 * time.Second, 20 * time.Second},
		{503, "Fri, 31 Dec 1999 23:00:00 GMT", 800 * time.Millisecond, 1200 * time.Millisecond},
		{429, "Sun, 02 Jan 2000 00:00:00 GMT", time.Hour, time.Hour},
		{503, "Sun, 32 Jan 2000 00:00:00 GMT", 800 * time.Millisecond, 1200 * time.Millisecond},
		{500, "120", 800 * time.Millisecond, 1200 * time.Millisecond},
	} {
		t.Run(fmt.Sprint(c.status, " ", c.header), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t)
				b.add("w")
				b.answers(func(post) (int, string) { return c.status, c.header })
				b.happens(1, 0)
				b.work() // it makes the first attempt at midnight, when the bubble's time begins
				time.Sleep(2 * time.Hour)
				posts := b.got("w")
				if apart := posts[1].at.Sub(posts[0].at); apart < c.least || apart > c.most {
					t.Errorf("tried again after %s, want %s to %s", apart, c.least, c.most)
				}
			})
		})
	}
}

func TestReceiversThatFailTogetherAreCalledApart(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		for n := range 10 {
			b.add(fmt.Sprint("w", n))
		}
		b.answers(status(500))
		b.happens(1, 0)
		time.Sleep(7 * time.Second) // longer than pollEvery and the pause before the second attempt
		times := map[time.Time]bool{}
		for n := range 10 {
			posts := b.got(fmt.Sprint("w", n))
			if len(posts) < 2 {
				b.t.Fatalf("%d attempts for w%d, want 2 or more", len(posts), n)
			}
			times[posts[1].at] = true
		}
		if len(times) < 2 {
			b.t.Error("every second attempt was at the same time")
		}
	})
}

func TestADigestCountsOnlyEventsOfTheFilter(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.add("w", func(w *webhook.Webhook) { w.Rate, w.Kinds = 1, []app.EventKind{app.EventUnhealthy} })
		for range 5 {
			b.happens(1, time.Second)
			b.tell(app.Event{Kind: app.EventHealthy, Service: "web", Instance: "web-0"})
		}
		time.Sleep(time.Minute)
		posts := b.got("w")
		if len(posts) != 2 || posts[1].body.Data.Events != 4 {
			b.t.Errorf("got %+v, want an event and a digest of 4", posts)
		}
	})
}

func TestABurstIsOneDigestAndReplaySendsEachEvent(t *testing.T) {
	t.Parallel()
	for _, quiet := range []time.Duration{time.Hour, 58 * time.Second, time.Second} {
		t.Run(quiet.String(), func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(b *bubble) {
				b.add("w")
				b.add("calm", func(w *webhook.Webhook) { w.Rate = webhook.MaxRate })
				before := b.happens(1, quiet)
				burst := b.happens(1000, 5*time.Millisecond)
				time.Sleep(10 * time.Second)
				if n := len(b.got("calm")); n != 1001 {
					t.Errorf("at a higher rate it got %d, want all at once", n)
				}
				single := b.got("w")
				n := len(single) - len(before)
				if n < webhook.DefaultRate-1 || n > 2*webhook.DefaultRate {
					t.Errorf("%d of the burst came one by one", n)
				}
				wantEvents(t, "one by one", single, slices.Concat(before, burst[:n]))
				time.Sleep(10 * time.Minute)
				rest := b.got("w")
				if len(rest) != 1 || rest[0].body.Type != "digest" {
					t.Fatalf("then came %+v, want one digest", rest)
				}
				d := rest[0].body.Data
				if d.Events != 1000-n || d.First != string(burst[n]) || d.Last != string(burst[999]) || len(d.Counts) != 1 ||
					d.Counts[0].Service != "web" || d.Counts[0].Kind != "unhealthy" || d.Counts[0].Events != 1000-n {
					t.Errorf("the digest is %+v, want %d from %s to %s", d, 1000-n, burst[n], burst[999])
				}

				live := b.happens(1, 0)
				r := webhook.Replay{After: burst[0].Before(), Until: burst[999]}
				if err := b.outbox.Replay(t.Context(), "w", r); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				posts := b.got("w")
				wantEvents(t, "live, then replayed", posts, slices.Concat(live, burst))
				for _, p := range posts[1:] {
					if !p.body.Replayed {
						t.Fatalf("%s does not say that it is replayed", p.id)
					}
				}
				if w := b.hook("w"); w.Replay != (webhook.Replay{}) || w.Cursor != live[0] {
					t.Errorf("then it is %+v, want it at %s and no replay", w, live[0])
				}
			})
		})
	}
}

func TestADigestIsTheSameWithEveryAttempt(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.add("w", func(w *webhook.Webhook) { w.Rate = 1 })
		events := b.happens(10, time.Second)
		b.got("w")
		b.answers(status(500))
		time.Sleep(22 * time.Second)
		b.happens(5, time.Second)
		time.Sleep(10 * time.Second)
		posts := b.got("w")
		if len(posts) < 3 {
			b.t.Fatalf("%d attempts", len(posts))
		}
		for _, p := range posts {
			if p.id != fmt.Sprintf("digest_%s_%s", events[1], events[9]) || p.body.Data.Events != 9 {
				b.t.Errorf("attempt %s with %d events", p.id, p.body.Data.Events)
			}
		}
	})
}

// The time of the events counts: a receiver that was unavailable gets events of a steady rate one by
// one.
func TestAReceiverThatWasUnavailableGetsEveryEvent(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.add("w")
		b.answers(status(500))
		events := b.happens(600, 2*time.Second)
		b.got("w")
		b.answers(nil)
		time.Sleep(time.Hour)
		wantEvents(b.t, "when it is back", b.got("w"), events)
	})
}

func TestABurstWhileAReceiverWasUnavailableIsADigest(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.add("w")
		b.answers(status(500))
		burst := b.happens(100, 10*time.Millisecond)
		time.Sleep(time.Hour)
		b.got("w")
		b.answers(nil)
		time.Sleep(time.Hour)
		posts := b.got("w")
		wantEvents(b.t, "one by one", posts[:webhook.DefaultRate], burst[:webhook.DefaultRate])
		if n := len(posts); n != webhook.DefaultRate+1 || posts[n-1].body.Data.Events != 100-webhook.DefaultRate {
			b.t.Errorf("%d messages, the last one %+v, want the rest in a digest", n, posts[n-1])
		}
	})
}

func TestTrimmedEventsAreAGap(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.add("w")
		first := b.happens(1, time.Second)
		b.got("w")
		b.answers(status(500))
		events := b.happens(50, 5*time.Second)
		b.outbox.Cut(5)
		b.answers(nil)
		time.Sleep(time.Hour)
		posts := b.got("w")
		n := slices.IndexFunc(posts, func(p post) bool { return p.body.Type == "gap" })
		if n < 0 || posts[n].body.Data.After != string(first[0]) || posts[n].body.Data.Before != string(events[45]) {
			b.t.Fatalf("got %+v, want a gap between %s and %s", posts, first[0], events[45])
		}
		wantEvents(b.t, "after the gap", posts[n+1:], events[45:])

		if err := b.outbox.Replay(b.t.Context(), "w", webhook.Replay{After: events[46], Until: events[48]}); err != nil {
			b.t.Fatal(err)
		}
		b.outbox.Cut(2)
		time.Sleep(time.Minute)
		posts = b.got("w")
		if len(posts) != 2 || posts[0].body.Type != "gap" || !posts[0].body.Replayed {
			b.t.Fatalf("replayed: %+v, want a gap and an event", posts)
		}
		wantEvents(b.t, "replayed", posts[1:], events[48:49])
	})
}

func TestALiveEventPrecedesReplayedEvents(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.add("w")
		old := b.happens(20, time.Second)
		time.Sleep(time.Minute)
		b.got("w")
		var live []app.Revision
		b.answers(func(p post) (int, string) {
			if p.id == "msg_"+string(old[9]) {
				live = append(live, b.tell(app.Event{Kind: app.EventHealthy, Service: "web", Instance: "web-1"}))
			}
			return 200, ""
		})
		if err := b.outbox.Replay(b.t.Context(), "w", webhook.Replay{After: old[0].Before(), Until: old[19]}); err != nil {
			b.t.Fatal(err)
		}
		time.Sleep(time.Minute)
		wantEvents(b.t, "replayed and live", b.got("w"), slices.Concat(old[:10], live, old[10:]))
	})
}

// While the store is unavailable, an attempt cannot be recorded. The courier waits, so that the
// receiver does not get the message twice.
func TestAShortOutageOfTheStoreCausesNoSecondAttempt(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.add("w")
		b.answers(func(post) (int, string) {
			b.outbox.Down(true)
			return 200, ""
		})
		events := b.happens(2, 0)
		time.Sleep(3 * time.Second)
		b.answers(nil)
		b.outbox.Down(false)
		time.Sleep(time.Minute)
		wantEvents(b.t, "got", b.got("w"), events)
	})
}

func TestOnceDeliversWhatIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		b.add("w")
		b.add("failing")
		b.answers(func(p post) (int, string) {
			time.Sleep(time.Second)
			if p.webhook == "failing" {
				return 500, ""
			}
			return 200, ""
		})
		events := b.happens(3, 0)
		courier := b.courier()
		for range 2 {
			if err := courier.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		wantEvents(t, "a receiver that works", b.got("w"), events)
		if n := len(b.got("failing")); n == 0 {
			t.Error("the other one was not asked")
		}
		b.outbox.Down(true)
		if err := courier.Once(t.Context()); !errors.Is(err, app.ErrUnavailable) {
			t.Errorf("without a store: %v", err)
		}
	})
}

func TestCouriersShareTheWork(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.work()
		b.work()
		for n := range 20 {
			b.add(fmt.Sprintf("w%d", n))
		}
		b.answers(func(post) (int, string) {
			time.Sleep(time.Second)
			return 200, ""
		})
		events := b.happens(10, 100*time.Millisecond)
		time.Sleep(5 * time.Minute)
		for n := range 20 {
			id := fmt.Sprintf("w%d", n)
			wantEvents(b.t, id, b.got(id), events)
		}
	})
}
