package webhook

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"rollcall/app"
)

// pauseAfter is how long a receiver may fail before its webhook is paused.
const pauseAfter = 24 * time.Hour

// maxRetryAfter limits the wait that a receiver may ask for.
const maxRetryAfter = time.Hour

// waits are the times between attempts at a message. The last one repeats.
var waits = []time.Duration{
	time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
}

// deliveryAfter returns the delivery that an attempt makes of a webhook: then if the receiver accepted
// the message, else was with another failure.
func deliveryAfter(was, then Webhook, a Attempt, now time.Time) Delivery {
	if a.Passed {
		then.Failures, then.Failing, then.Due = 0, time.Time{}, now
		return Delivery{Webhook: then, Attempt: &a}
	}
	is := was
	is.Failures++
	if is.Failures == 1 {
		is.Failing = now
	}
	is.Due = now.Add(wait(is.Failures, a, longestWait(was)))
	d := Delivery{Webhook: is, Attempt: &a}
	switch {
	case a.Code == http.StatusGone:
		d.Webhook.Paused = "the receiver ended the subscription: " + a.Reason()
	case is.Failures > len(waits) && now.Sub(is.Failing) >= pauseAfter:
		d.Webhook.Paused = fmt.Sprintf("the receiver has failed for %s, %d times: %s", now.Sub(is.Failing).Round(time.Minute), is.Failures, a.Reason())
	default:
		return d
	}
	d.Event = &app.Event{Kind: app.EventPaused, At: now, Subject: was.ID, Reason: d.Webhook.Paused}
	return d
}

// longestWait limits the time between two attempts, unless the receiver asks for more. An alert that
// begins or ends while Alertmanager is unavailable must not arrive hours late.
func longestWait(w Webhook) time.Duration {
	if w.Format == AlertmanagerFormat {
		return alertsEvery
	}
	return waits[len(waits)-1]
}

// wait returns the time to wait after the nth failure. It is at most longest, and random within 20 %,
// so that receivers which failed together are not called together. It is at least as long as the
// receiver asked for.
func wait(n int, a Attempt, longest time.Duration) time.Duration {
	d := min(waits[min(n, len(waits))-1], longest)
	d += time.Duration((rand.Float64() - 0.5) * 0.4 * float64(d)) //nolint:gosec // no secret
	if a.Code == http.StatusTooManyRequests || a.Code == http.StatusServiceUnavailable {
		d = max(d, a.RetryAfter)
	}
	return d
}
