package webhook

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"rollcall/app"
)

// patience is how long a receiver may fail before it is told nothing any more.
const patience = 24 * time.Hour

// maxRetryAfter is the most that a receiver may ask for.
const maxRetryAfter = time.Hour

// waits lie between the attempts at a message; the last one comes again and again.
var waits = []time.Duration{
	time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
}

// judge decides how far a webhook is after an attempt: then, if the receiver has taken
// the message.
func judge(was, then app.Webhook, a app.Attempt, now time.Time) app.Delivery {
	if a.Passed {
		then.Failures, then.Failing, then.Due = 0, time.Time{}, now
		return app.Delivery{Webhook: then, Attempt: &a}
	}
	is := was
	is.Failures++
	if is.Failures == 1 {
		is.Failing = now
	}
	is.Due = now.Add(wait(is.Failures, a, longestWait(was)))
	d := app.Delivery{Webhook: is, Attempt: &a}
	switch {
	case a.Code == http.StatusGone:
		d.Webhook.Paused = "the receiver wants no more: " + a.Reason()
	case is.Failures > len(waits) && now.Sub(is.Failing) >= patience:
		d.Webhook.Paused = fmt.Sprintf("the receiver has failed for %s, %d times: %s", now.Sub(is.Failing).Round(time.Minute), is.Failures, a.Reason())
	default:
		return d
	}
	d.Event = &app.Event{Kind: app.EventPaused, At: now, Subject: was.ID, Reason: d.Webhook.Paused}
	return d
}

// longestWait bounds the time between two attempts unless the receiver asks for more. An alert that begins
// or ends while Alertmanager is away must not be hours late when it is back.
func longestWait(w app.Webhook) time.Duration {
	if w.Format == app.AlertmanagerFormat {
		return alertsEvery
	}
	return waits[len(waits)-1]
}

// wait is how long to wait after the nth failure, at most longest: a fifth more or less, so that receivers
// that failed at the same time are not called at the same time, and as long as the receiver asked for.
func wait(n int, a app.Attempt, longest time.Duration) time.Duration {
	d := min(waits[min(n, len(waits))-1], longest)
	d += time.Duration((rand.Float64() - 0.5) * 0.4 * float64(d)) //nolint:gosec // nobody gains from guessing it
	if a.Code == http.StatusTooManyRequests || a.Code == http.StatusServiceUnavailable {
		d = max(d, a.RetryAfter)
	}
	return d
}
