package diagnose

import (
	"fmt"
	"strings"
	"time"

	"rollcall/app"
)

// LastResult returns the reason of the result that decided the state of an instance, or says that there is no
// result yet.
func LastResult(i app.Instance) string {
	switch {
	case i.Last != (app.Result{}):
		return i.Last.Reason()
	case i.Check.Kind == app.None:
		return "not checked"
	case i.Check.Probed():
		return "not probed yet"
	default:
		return "no report yet"
	}
}

// State returns the state of an instance with its reason, such as "unhealthy (connection refused)". The zero
// Instance stands for one that is no longer registered.
func State(i app.Instance) string {
	switch {
	case i.ID == "":
		return "no longer registered"
	case i.Override.Maintenance:
		return "in maintenance until " + i.Override.Until.UTC().Format(time.RFC3339)
	}
	state := string(i.State)
	if i.State == app.Unhealthy && i.Wait() > 0 {
		state += ", flapping: it has to pass for " + Duration(i.Wait())
	}
	return state + lastFailure(i)
}

// lastFailure returns the last result in parentheses if it explains the state.
func lastFailure(i app.Instance) string {
	if i.State == app.Healthy || i.State == app.Draining || i.Last == (app.Result{}) {
		return ""
	}
	return " (" + i.Last.Reason() + ")"
}

// Summary returns the reason of the state in a few words, for a row of a table that shows the state beside it.
// It needs no more than the replica holds.
func Summary(i app.Instance) string {
	switch {
	case i.State == app.Draining:
		return "leaving"
	case i.Override.Maintenance:
		return "until " + i.Override.Until.UTC().Format("15:04 UTC") + "; else " + string(i.State)
	case i.State == app.Starting: // the replica has no result of it
		return "has not passed its checks yet"
	}
	return LastResult(i)
}

// Instance returns sentences on the state of an instance: its reason, and the condition that ends it.
func Instance(i app.Instance, recent app.Recent) string {
	text, results := "", recent.Results
	switch i.State {
	case app.Healthy:
		text = healthy(i, newest(i, results), recent.Disputed)
	case app.Starting:
		text = fmt.Sprintf("It gets requests when it has passed %s, and has %d of %d passes: %s.",
			times(i.Check.Rise), i.Streak, i.Check.Rise, newest(i, results))
	case app.Unhealthy:
		text = unhealthy(i)
	case app.Failed:
		text = fmt.Sprintf("It was not healthy within its grace of %s: %s. It is healthy when it has passed %s.",
			Duration(i.Check.Grace), LastResult(i), times(i.Check.Rise))
	case app.Draining, app.Gone:
		return "It is leaving. That is final."
	}
	if i.Override.Maintenance {
		return fmt.Sprintf("An operator has taken it out of service. It would be %s: %s", i.State, lowerFirst(text))
	}
	return text
}

func healthy(i app.Instance, last string, disputed bool) string {
	switch {
	case disputed:
		return fmt.Sprintf("It is disputed: the worker that owns it does not reach it (%s), and another worker does. It is not removed. "+
			"Check the routes from the worker to the instance.", last)
	case i.Check.Kind == app.None:
		return "It is not checked: it counts as healthy from its registration on."
	case i.Streak > 0:
		return fmt.Sprintf("It passed its checks, but failed %s: %s. It is unhealthy when it has failed %s.",
			times(i.Streak), i.Last.Reason(), times(i.Check.Fall))
	}
	return "It passes its checks: " + last + "."
}

func unhealthy(i app.Instance) string {
	if wait := i.Wait(); wait > 0 {
		return fmt.Sprintf("It is flapping: it has become unhealthy %d times. The last result is: %s. It is healthy again when it has passed for %s "+
			"without a failure, or at once when fewer than half of the instances of its vhost are routable.", i.Falls, LastResult(i), Duration(wait))
	}
	return fmt.Sprintf("It no longer passes its checks: %s. It is healthy again when it has passed %s.", LastResult(i), times(i.Check.Rise))
}

func newest(i app.Instance, results []app.Result) string {
	if n := len(results); n > 0 {
		return results[n-1].Reason()
	}
	return LastResult(i)
}

// Deadline returns the outcome at the deadline of an instance, and the condition that prevents it; empty if none does.
func Deadline(i app.Instance) (outcome, unless string) {
	switch i.State {
	case app.Starting:
		return "It becomes failed", "it is healthy by then"
	case app.Healthy:
		return "It becomes unhealthy", "it reports before"
	case app.Unhealthy, app.Failed:
		return "Rollcall removes it", "it is healthy by then"
	case app.Draining, app.Gone:
	}
	return "It is gone", ""
}

// Target returns the URL or address that the check of an instance probes; empty without a probe.
func Target(i app.Instance) string {
	switch {
	case i.Check.Kind == app.HTTP && i.Check.TLS:
		return "https://" + i.Target() + i.Check.Path
	case i.Check.Kind == app.HTTP:
		return "http://" + i.Target() + i.Check.Path
	case i.Check.Probed():
		return i.Target()
	}
	return ""
}

// Next returns the next step of an instance that has registered.
func Next(i app.Instance) string {
	if i.State == app.Healthy {
		if len(i.Hosts) == 0 {
			return "healthy: found by others, and not routed, because it has no host"
		}
		return "healthy: found by others, and routed"
	}
	text := "healthy once it has passed its probe " + times(i.Check.Rise)
	if i.Check.Kind == app.Heartbeat {
		text = "healthy once it has reported well " + times(i.Check.Rise) + "; then it has to report every " + i.Check.Interval.String()
	}
	if i.State == app.Starting {
		text += "; failed if that takes longer than " + i.Check.Grace.String()
	}
	if i.Replaces != "" {
		text += "; then it takes over from " + i.Replaces + ", which stays until then"
	}
	return text
}

// Duration returns a duration without the units that are zero: 1m rather than 1m0s.
func Duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice in a row"
	}
	return fmt.Sprintf("%d times in a row", n)
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
