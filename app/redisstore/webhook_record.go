package redisstore

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"rollcall/app"
	"rollcall/app/webhook"
)

// webhookRecord is the stored form of the unchanging part of a webhook. Times are in ms since 1970. It is written once.
// Add a field with omitempty. A process of a version without the field leaves the deliveries of a webhook that has it to
// processes of newer versions.
type webhookRecord struct {
	URL         string            `json:"url"`
	Secret      string            `json:"secret"`
	Format      webhook.Format    `json:"format"`
	Headers     map[string]string `json:"headers,omitempty"`
	Services    []string          `json:"services,omitempty"`
	Kinds       []app.EventKind   `json:"kinds,omitempty"`
	Rate        int               `json:"rate"`
	Description string            `json:"description,omitempty"`
	Created     int64             `json:"created"`
}

func encodeWebhook(w webhook.Webhook) (string, error) {
	doc, err := json.Marshal(webhookRecord{ //nolint:gosec // messages are signed with the secret itself
		URL: w.URL, Secret: w.Secret, Format: w.Format, Headers: w.Headers, Services: w.Services, Kinds: w.Kinds, Rate: w.Rate,
		Description: w.Description, Created: w.CreatedAt.UnixMilli(),
	})
	if err != nil {
		return "", fmt.Errorf("encode webhook: %w", err)
	}
	return string(doc), nil
}

// decodeWebhook reads a webhook's hash; see keys.go.
func decodeWebhook(id string, hash map[string]string) (webhook.Webhook, error) {
	var r webhookRecord
	unknown, err := unmarshal(hash["doc"], &r)
	if err != nil {
		return webhook.Webhook{}, fmt.Errorf("decode webhook %s: %w: %w", id, errUnreadable, err)
	}
	w := webhook.Webhook{
		ID: id, URL: r.URL, Secret: r.Secret, Format: r.Format, Headers: r.Headers, Services: r.Services, Kinds: r.Kinds, Rate: r.Rate,
		Description: r.Description, CreatedAt: time.UnixMilli(r.Created), Newer: unknown != "",
		Paused: hash["paused"], Cursor: app.Revision(hash["cursor"]),
	}
	w.Minute, w.Told = decodeCount(hash["minute"])
	w.Failing, w.Failures = decodeCount(hash["failing"])
	if ms, err := strconv.ParseInt(hash["repeated"], 10, 64); err == nil {
		w.Repeated = time.UnixMilli(ms)
	}
	after, until, _ := strings.Cut(hash["replay"], " ")
	w.Replay = webhook.Replay{After: app.Revision(after), Until: app.Revision(until)}
	return w, nil
}

// encodeCount encodes the number of occurrences since a time, as "ms n".
func encodeCount(since time.Time, n int) string {
	if since.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d %d", since.UnixMilli(), n)
}

func decodeCount(s string) (since time.Time, n int) {
	at, count, found := strings.Cut(s, " ")
	if !found {
		return time.Time{}, 0
	}
	ms, _ := strconv.ParseInt(at, 10, 64) // a foreign value is shown as zero
	n, _ = strconv.Atoi(count)
	return time.UnixMilli(ms), n
}

func encodeReplay(r webhook.Replay) string {
	if r == (webhook.Replay{}) {
		return ""
	}
	return string(r.After) + " " + string(r.Until)
}

// attemptRecord is the stored form of an attempt.
type attemptRecord struct {
	Message string `json:"message"`
	Kind    string `json:"kind"`
	Number  int    `json:"n"`
	resultRecord
}

func encodeAttempt(a webhook.Attempt) (string, error) {
	doc, err := json.Marshal(attemptRecord{a.Message, a.Kind, a.Number, *recordOfResult(a.Result, 0)})
	if err != nil {
		return "", fmt.Errorf("encode attempt: %w", err)
	}
	return string(doc), nil
}

func decodeAttempt(doc string) (webhook.Attempt, error) {
	var r attemptRecord
	if err := json.Unmarshal([]byte(doc), &r); err != nil {
		return webhook.Attempt{}, fmt.Errorf("decode attempt: %w: %w", errUnreadable, err)
	}
	return webhook.Attempt{Message: r.Message, Kind: r.Kind, Number: r.Number, Result: r.result(0)}, nil
}
