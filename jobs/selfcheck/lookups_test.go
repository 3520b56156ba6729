package selfcheck_test

import (
	"testing"
	"time"

	"rollcall/app"
	"rollcall/jobs/selfcheck"
)

func TestTheNameServerFailsOnceAndAnswersAgainOnce(t *testing.T) {
	t.Parallel()
	const failed, answered, noName, interrupted = app.NameServerFailed, app.Refused, app.Unresolvable, app.Inconclusive
	for name, c := range map[string]struct {
		steps string // ids, each with a letter for its result; "." is an hour
		want  string // f: lookups begin to fail, b: lookups work again
	}{
		"one failure is no outage":           {"a- a+ a-", ""},
		"two in a row are":                   {"a- a-", "f"},
		"of one name, not of two":            {"a- b-", ""},
		"several names, one event":           {"a- a- b- b- c- c- a-", "f"},
		"back when the last one is":          {"a- a- b- b- a+ a+ b+ b+", "fb"},
		"an answer without addresses counts": {"a- a- an", "fb"},
		"an interrupted probe does not":      {"a- a- ai", "f"},
		"another outage":                     {"a- a- a+ a- a-", "fbf"},
		"an instance that is gone":           {"a- a- . b+", "fb"},
		"gone, and only addresses left":      {"a- a- . 1+", "fb"},
		"addresses are not looked up":        {"1- 1- 1-", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var lookups selfcheck.Lookups
			now, got := time.Unix(1_700_000_000, 0), ""
			for n := 0; n < len(c.steps); n += 3 {
				if c.steps[n] == '.' {
					now = now.Add(time.Hour)
					n--
					continue
				}
				id := c.steps[n : n+1]
				i := healthy(id)
				if id != "1" {
					i.Address = id + ".internal:80"
				}
				code := map[byte]app.Code{'-': failed, '+': answered, 'n': noName, 'i': interrupted}[c.steps[n+1]]
				_, changed := lookups.Record(i, app.Result{Code: code}, now)
				if changed {
					got += map[bool]string{true: "f", false: "b"}[lookups.Failing()]
				}
				now = now.Add(2 * time.Second)
			}
			if got != c.want {
				t.Errorf("after %q: %q, want %q", c.steps, got, c.want)
			}
		})
	}
}
