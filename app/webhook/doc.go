// Package webhook delivers events to the receivers of webhooks. A Courier plans the next message of
// each webhook, signs it, makes the attempt, and retries after a failure. Formats are Standard
// Webhooks, Slack and Alertmanager.
//
// The event stream is the outbox, and a webhook is a cursor into it. The cursor and the events after
// it alone determine a message, so a repeated attempt, by any process, sends the same message with the
// same id. The cursor moves when the receiver has accepted the message: at least once, in order.
//
// Receivers are not trusted. An attempt has one deadline and its own goroutine, reads only a few bytes
// of the answer, follows no redirect, uses no proxy, and connects only to permitted addresses (see
// package outbound).
package webhook
