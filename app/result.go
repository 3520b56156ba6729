package app

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Code says what a check found. 100 to 599 are HTTP statuses, 0 is a plain pass;
// the rest are the ways to fail that have no status.
type Code uint16

// The codes beside the HTTP statuses. They are stored: never renumber one.
const (
	OK            Code = 0
	Inconclusive  Code = 1  // the check could not be made; says nothing about the instance
	Refused       Code = 10 // connection refused
	TimedOut      Code = 11 // no connection within the timeout
	Reset         Code = 12 // connection reset
	ClosedEarly   Code = 13 // connection closed before a whole answer
	BodyMismatch  Code = 14 // the expected text is not in the body
	BadAnswer     Code = 15 // an answer that is not of the protocol
	NotServing    Code = 16 // answered, and said that it is not able to serve
	Unresolvable  Code = 17 // the name has no address
	Unreachable   Code = 18 // no route to the address, or another network error
	Forbidden     Code = 19 // an address that probes must not call
	NoHeartbeat   Code = 20 // the lease ran out
	ReportedSick  Code = 21 // a heartbeat with status=fail
	Stalled       Code = 22 // connected, but no whole answer within the timeout
	NotUnderstood Code = 25 // inconclusive: the instance has a check that this version does not know
	minHTTPStatus Code = 100
)

// NameServerFailed means that the worker's name server did not answer, or answered that it
// cannot. Like Inconclusive, it says nothing about the instance.
const NameServerFailed Code = 23

var codeTexts = map[Code]string{
	OK:           "passed",
	Inconclusive: "the check could not be made",
	Refused:      "connection refused",
	TimedOut:     "timed out",
	Reset:        "connection reset",
	ClosedEarly:  "connection closed early",
	BodyMismatch: "expected text not in body",
	BadAnswer:    "not an answer of this protocol",
	NotServing:   "not serving",
	Unresolvable: "name does not resolve",
	Unreachable:  "unreachable",
	Forbidden:    "address not allowed",
	NoHeartbeat:  "no heartbeat",
	ReportedSick: "reported sick",
	Stalled:      "timed out",

	NameServerFailed: "the name could not be looked up",
	NotUnderstood:    "a newer version's check, not made",
}

// String is the code in words.
func (c Code) String() string {
	if c >= minHTTPStatus {
		return strings.TrimSpace(fmt.Sprintf("status %d %s", int(c), http.StatusText(int(c))))
	}
	if text, ok := codeTexts[c]; ok {
		return text
	}
	return fmt.Sprintf("code %d", int(c))
}

// ProvesPath reports whether a failure with this code is an answer of the instance's host:
// the network between the worker and that host works. Silence, a network error, a name
// without an address and a refusal by the worker's own policy prove nothing.
func (c Code) ProvesPath() bool {
	switch c {
	case Refused, Reset, ClosedEarly, BodyMismatch, BadAnswer, NotServing, Stalled:
		return true
	default:
		return c >= minHTTPStatus
	}
}

// Answered reports whether something at the instance's address took part in the check: it
// passed, sent a status, or at least accepted the connection. An instance that fails and
// answers is sick. One that has not answered for its whole forget period is gone; see the
// package comment.
func (c Code) Answered() bool {
	switch c {
	case Inconclusive, NameServerFailed, Refused, TimedOut, Unresolvable, Unreachable, Forbidden, NoHeartbeat:
		return false
	default: // a code of a newer version counts as an answer: it must not remove anything
		return true
	}
}

// IsTimeout reports whether the probe's time was over before there was a whole answer.
func (c Code) IsTimeout() bool { return c == TimedOut || c == Stalled }

// Result is what one check of one instance found.
type Result struct {
	At      time.Time     // when the check began
	Latency time.Duration // how long it took
	Passed  bool
	Code    Code
	Detail  string // more than Code says, for people; at most 200 bytes; may be empty
}

// Conclusive reports whether the result says anything about the instance.
func (r Result) Conclusive() bool {
	return r.Code != Inconclusive && r.Code != NameServerFailed && r.Code != NotUnderstood
}

// Reason is the result in words.
func (r Result) Reason() string {
	if r.Detail == "" {
		return r.Code.String()
	}
	return r.Code.String() + ": " + r.Detail
}
