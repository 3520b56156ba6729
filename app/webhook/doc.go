// Package webhook tells receivers of events: it decides what is next, writes and signs
// the message, makes the attempt, and tries again later when that fails.
//
// The stream of events is the outbox, and a webhook is a cursor into it. A message is
// decided from the cursor and the events after it alone, so an attempt that is made again,
// by whomever, is the same message with the same id. The cursor moves when the receiver
// has taken it: at least once, in order.
//
// Receivers are strangers. An attempt therefore has one deadline for everything and a
// goroutine of its own, reads a few bytes of the answer, follows no redirect, uses no
// proxy, and calls no address it must not call (see package outbound).
package webhook
