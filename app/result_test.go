package app_test

import (
	"testing"

	"rollcall/app"
)

func TestReason(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		result app.Result
		want   string
	}{
		{app.Result{Passed: true}, "passed"},
		{app.Result{Passed: true, Detail: "role:master"}, "passed: role:master"},
		{app.Result{Code: app.Inconclusive, Detail: "too many open files"}, "the check could not be made: too many open files"},
		{app.Result{Code: app.Refused}, "connection refused"},
		{app.Result{Code: app.TimedOut, Detail: "after 1s"}, "timed out: after 1s"},
		{app.Result{Code: app.Reset}, "connection reset"},
		{app.Result{Code: app.ClosedEarly}, "connection closed early"},
		{app.Result{Code: app.BodyMismatch}, "expected text not in body"},
		{app.Result{Code: app.BadAnswer}, "not an answer of this protocol"},
		{app.Result{Code: app.NotServing}, "not serving"},
		{app.Result{Code: app.Unresolvable}, "name does not resolve"},
		{app.Result{Code: app.Unreachable}, "unreachable"},
		{app.Result{Code: app.Forbidden}, "address not allowed"},
		{app.Result{Code: app.NoHeartbeat, Detail: "none for 11s"}, "no heartbeat: none for 11s"},
		{app.Result{Code: app.ReportedSick}, "reported sick"},
		{app.Result{Code: app.NameServerFailed}, "the name could not be looked up"},
		{app.Result{Code: app.Stalled, Detail: "connected, but no whole answer"}, "timed out: connected, but no whole answer"},
		{app.Result{Code: 99}, "code 99"},
		{app.Result{Code: 100}, "status 100 Continue"},
		{app.Result{Code: 503, Detail: "want 200 to 399"}, "status 503 Service Unavailable: want 200 to 399"},
		{app.Result{Code: 599}, "status 599"}, // a status without a name
		{app.Result{Code: 599, Detail: "x"}, "status 599: x"},
	} {
		if got := c.result.Reason(); got != c.want {
			t.Errorf("reason is %q, want %q", got, c.want)
		}
	}
}

func TestAnswered(t *testing.T) {
	t.Parallel()
	for code, want := range map[app.Code]bool{
		app.OK: true, 200: true, 301: true, 404: true, 500: true, 599: true,
		app.Reset: true, app.ClosedEarly: true, app.BodyMismatch: true, app.BadAnswer: true, app.NotServing: true,
		app.ReportedSick: true, app.Stalled: true, 99: true, // of a newer version
		app.Inconclusive: false, app.Refused: false, app.TimedOut: false, app.Unresolvable: false, app.Unreachable: false,
		app.Forbidden: false, app.NoHeartbeat: false,
	} {
		if got := code.Answered(); got != want {
			t.Errorf("%s answered: %v, want %v", code, got, want)
		}
	}
}

// TestCodesAreStored fails if a code gets another number.
func TestCodesAreStored(t *testing.T) {
	t.Parallel()
	for want, code := range map[uint16]app.Code{
		0: app.OK, 1: app.Inconclusive, 10: app.Refused, 11: app.TimedOut, 12: app.Reset, 13: app.ClosedEarly, 14: app.BodyMismatch, 15: app.BadAnswer,
		16: app.NotServing, 17: app.Unresolvable, 18: app.Unreachable, 19: app.Forbidden, 20: app.NoHeartbeat, 21: app.ReportedSick,
		22: app.Stalled, 23: app.NameServerFailed,
	} {
		if uint16(code) != want {
			t.Errorf("%s is %d, stored as %d", code, uint16(code), want)
		}
	}
}

func TestOnlyAnAnswerOfTheHostProvesThePath(t *testing.T) {
	t.Parallel()
	for code, want := range map[app.Code]bool{
		app.Refused: true, app.Reset: true, app.ClosedEarly: true, app.BodyMismatch: true, app.BadAnswer: true, app.NotServing: true,
		22: true, 100: true, 404: true, 503: true,
		app.TimedOut: false, app.Unreachable: false, app.Unresolvable: false, app.NameServerFailed: false, app.Forbidden: false,
		app.Inconclusive: false, app.NoHeartbeat: false, app.ReportedSick: false, 99: false,
	} {
		if got := code.ProvesPath(); got != want {
			t.Errorf("%s (%d) proves the path: %t, want %t", code, code, got, want)
		}
	}
}
