package app

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Code is the outcome of a check. 100 to 599 are HTTP statuses, 0 is a pass without a status; the
// other codes are failures without a status.
type Code uint16

// The codes without an HTTP status. Records contain them: never renumber one.
const (
	OK            Code = 0
	Inconclusive  Code = 1  // the worker could not make the check; no evidence about the instance
	Refused       Code = 10 // connection refused
	TimedOut      Code = 11 // no connection within the timeout
	Reset         Code = 12 // connection reset
	ClosedEarly   Code = 13 // connection closed before the end of the answer
	BodyMismatch  Code = 14 // the expected text is not in the body
	BadAnswer     Code = 15 // an answer in another protocol
	NotServing    Code = 16 // an answer that the instance cannot serve
	Unresolvable  Code = 17 // the name has no address
	Unreachable   Code = 18 // no route to the address, or another network error
	Forbidden     Code = 19 // an address that probes must not call
	NoHeartbeat   Code = 20 // the lease ran out
	ReportedSick  Code = 21 // a heartbeat with status=fail
	Stalled       Code = 22 // connected, but no complete answer within the timeout
	NotUnderstood Code = 25 // inconclusive: the instance has a check that this version does not know
	TLSFailed     Code = 26 // the certificate is not accepted, or the port does not speak TLS
	minHTTPStatus Code = 100
)

// NameServerFailed means that the worker's name server did not answer, or answered with a failure
// of its own. Like Inconclusive, it is no evidence about the instance.
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
	TLSFailed:        "TLS failed",
}

// String returns the code in words.
func (c Code) String() string {
	if c >= minHTTPStatus {
		return strings.TrimSpace(fmt.Sprintf("status %d %s", int(c), http.StatusText(int(c))))
	}
	if text, ok := codeTexts[c]; ok {
		return text
	}
	return fmt.Sprintf("code %d", int(c))
}

// ProvesPath reports whether a failure with this code is an answer of the instance's host, so that
// the network between the worker and the host works. Silence, a network error, a name without an
// address and a refusal by the worker's own policy prove no path.
func (c Code) ProvesPath() bool {
	switch c {
	case Refused, Reset, ClosedEarly, BodyMismatch, BadAnswer, NotServing, Stalled, TLSFailed:
		return true
	default: // the code of a newer version counts as an answer, so that it removes no instance
		return c >= minHTTPStatus
	}
}

// Answered reports whether the instance's address took part in the check: it passed, sent a status,
// or at least accepted the connection. An instance that fails and answers is sick. One that does
// not answer for its whole forget period is gone; see the package comment.
func (c Code) Answered() bool {
	switch c {
	case Inconclusive, NameServerFailed, Refused, TimedOut, Unresolvable, Unreachable, Forbidden, NoHeartbeat:
		return false
	default: // a code of a newer version counts as an answer: it must not remove anything
		return true
	}
}

// IsTimeout reports whether the timeout ended the check before a complete answer.
func (c Code) IsTimeout() bool { return c == TimedOut || c == Stalled }

// Result is the outcome of one check of one instance.
type Result struct {
	At      time.Time     // when the check began
	Latency time.Duration // how long it took
	Passed  bool
	Code    Code
	Detail  string // for people, in addition to Code; at most 200 bytes; may be empty
}

// Conclusive reports whether the result is evidence about the instance.
func (r Result) Conclusive() bool {
	return r.Code != Inconclusive && r.Code != NameServerFailed && r.Code != NotUnderstood
}

// Reason returns the result in words.
func (r Result) Reason() string {
	if r.Detail == "" {
		return r.Code.String()
	}
	return r.Code.String() + ": " + r.Detail
}
