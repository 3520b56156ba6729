//go:build unix

package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// script is a registry that answers by a script, and notes when it was called.
type script struct {
	began   time.Time
	answers func(call int) answer
	calls   []time.Duration // since the beginning
	beats   []time.Duration
	beat    func(n int) answer
	forms   []url.Values
}

func (s *script) register(_ context.Context, form url.Values) answer {
	s.calls = append(s.calls, time.Since(s.began))
	s.forms = append(s.forms, url.Values{"address": form["address"], "port": form["port"]})
	return s.answers(len(s.calls))
}

func (s *script) heartbeat(context.Context, string, bool, string) answer {
	s.beats = append(s.beats, time.Since(s.began))
	return s.beat(len(s.beats))
}

func (s *script) taskAddress(context.Context, string) string {
	if len(s.calls) == 0 {
		return ""
	}
	return "10.5.5.5"
}

var (
	ok      = answer{status: 200, ID: "web-1", Address: "10.0.0.1:80"}
	created = answer{status: 201, ID: "web-1", Address: "10.0.0.1:80", New: true}
	away    = answer{err: errors.New("connection refused")}
	invalid = answer{status: 422, Detail: "host is bad; give a name"}
)

// play runs an agent for a while, and returns what it said.
func (s *script) play(t *testing.T, d time.Duration, change func(*agent)) string {
	t.Helper()
	var said []string
	synctest.Test(t, func(t *testing.T) {
		s.began = time.Now()
		set := readSettings([]string{"ROLLCALL_URL=http://r.test", "ROLLCALL_SERVICE=web", "ROLLCALL_ID=web-1", "PORT=80"}, quiet)
		a := newAgent(set, s, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
		if change != nil {
			change(a)
		}
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		a.run(ctx)
	})
	return strings.Join(said, "\n")
}

func TestAgentRegistersAgainAndSaysItOnce(t *testing.T) {
	t.Parallel()
	s := &script{answers: func(n int) answer {
		if n == 1 {
			return created
		}
		return ok
	}}
	said := s.play(t, time.Minute, nil)
	if want := "registered web-1 at 10.0.0.1:80"; said != want {
		t.Errorf("said %q, want %q", said, want)
	}
	if n := len(s.calls); n < 6 || n > 9 || s.calls[0] != 0 {
		t.Errorf("registered %d times in a minute, want every 7.5 to 10 s: %v", n, s.calls)
	}
}

func TestAgentSaysWhenTheRegistryHadLostIt(t *testing.T) {
	t.Parallel()
	s := &script{answers: func(n int) answer {
		if n == 2 {
			return created
		}
		return ok
	}}
	said := s.play(t, time.Minute, nil)
	if want := "registered web-1 at 10.0.0.1:80\nRollcall had lost web-1: registered it again"; said != want {
		t.Errorf("said %q, want %q", said, want)
	}
}

func TestAgentBacksOffWhileTheRegistryIsAway(t *testing.T) {
	t.Parallel()
	s := &script{answers: func(n int) answer {
		if n <= 8 {
			return away
		}
		return ok
	}}
	said := s.play(t, 2*time.Minute, nil)
	if want := "no registration at http://r.test, retrying: connection refused\nregistered web-1 at 10.0.0.1:80"; said != want {
		t.Errorf("said %q, want %q", said, want)
	}
	for n := 1; n < 8; n++ {
		pause, longest := s.calls[n]-s.calls[n-1], min(500*time.Millisecond<<(n-1), 10*time.Second)
		if pause > longest || pause < longest*3/4 {
			t.Errorf("pause %d is %s, want up to a quarter less than %s", n, pause, longest)
		}
	}
}

func TestAgentSaysARefusalOnceAndRetriesSlowly(t *testing.T) {
	t.Parallel()
	s := &script{answers: func(n int) answer {
		switch {
		case n <= 3:
			return invalid
		case n == 4:
			return answer{status: 403}
		}
		return ok
	}}
	said := s.play(t, 3*time.Minute, nil)
	want := "registration refused, trying again every 30 s: host is bad; give a name (422)\n" +
		"registration refused, trying again every 30 s: answered 403\nregistered web-1 at 10.0.0.1:80"
	if said != want {
		t.Errorf("said %q, want %q", said, want)
	}
	if s.calls[1]-s.calls[0] != 30*time.Second {
		t.Errorf("tried again after %s", s.calls[1]-s.calls[0])
	}
}

func TestAgentEndsWhenItsStartIsDraining(t *testing.T) {
	t.Parallel()
	s := &script{answers: func(n int) answer {
		if n == 1 {
			return created
		}
		return answer{status: http.StatusGone}
	}}
	said := s.play(t, 5*time.Minute, nil)
	if want := "registered web-1 at 10.0.0.1:80\nweb-1 is draining: not registered again by this start"; said != want || len(s.calls) != 2 {
		t.Errorf("registered %d times, and said %q, want %q", len(s.calls), said, want)
	}
}

func TestAgentReportsEveryIntervalAndRegistersAtOnceWhenItIsNotKnown(t *testing.T) {
	t.Parallel()
	checks := 0
	s := &script{answers: func(int) answer { return ok }, beat: func(n int) answer {
		if n == 4 {
			return answer{status: http.StatusNotFound}
		}
		return answer{status: http.StatusNoContent}
	}}
	said := s.play(t, 29*time.Second, func(a *agent) {
		a.reassert = time.Hour
		a.check = func(context.Context) (bool, string) {
			checks++
			return checks != 2 && checks != 3, "check " + fmt.Sprint(checks)
		}
	})
	if got, want := fmt.Sprint(s.beats), "[0s 5s 10s 15s 15s 20s 25s]"; got != want {
		t.Errorf("reported at %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(s.calls), "[0s 15s]"; got != want {
		t.Errorf("registered at %s, want %s", got, want)
	}
	if want := "registered web-1 at 10.0.0.1:80\nhealth command: fail: check 2\nhealth command: pass: check 4"; said != want {
		t.Errorf("said %q, want %q", said, want)
	}
}

// While a lease runs, an outage must not keep us waiting longer than between reports.
func TestAgentWithALeaseDoesNotBackOffBeyondItsInterval(t *testing.T) {
	t.Parallel()
	s := &script{answers: func(int) answer { return away }}
	s.play(t, time.Minute, func(a *agent) {
		a.interval = time.Second
		a.check = func(context.Context) (bool, string) { return true, "" }
	})
	if last := len(s.calls) - 1; s.calls[last]-s.calls[last-1] > time.Second {
		t.Errorf("tried at %v", s.calls)
	}
}

func TestAgentAsksThePlatformUntilItKnowsItsAddress(t *testing.T) {
	t.Parallel()
	s := &script{answers: func(int) answer { return ok }}
	s.play(t, 15*time.Second, func(a *agent) { a.metadata = "http://metadata.test" })
	if got, want := fmt.Sprint(s.forms[:2]), "[map[address:[] port:[80]] map[address:[10.5.5.5] port:[80]]]"; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
}
