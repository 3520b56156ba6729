package webhook

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"rollcall/app"
	"rollcall/app/outbound"
)

const (
	attemptTimeout = 10 * time.Second // for a whole attempt
	maxHeader      = 16 << 10         // bytes of an answer's header
	userAgent      = "rollcall-webhook"

	// maxWord is the number of bytes that an attempt quotes of an answer. That is enough to name an error,
	// and too short to read secrets with.
	maxWord = 24
)

// A Sender makes attempts. Every attempt has its own connection, because a receiver could occupy a kept
// one by an answer without an end.
type Sender struct {
	client *http.Client
	now    func() time.Time
}

var _ Pinger = (*Sender)(nil)

// NewSender returns a sender that calls permitted addresses only; see outbound.Permitted. now returns
// the time of this machine, which receivers compare with theirs.
func NewSender(allow func(netip.Addr) bool, now func() time.Time) *Sender {
	return &Sender{now: now, client: &http.Client{
		Timeout: attemptTimeout,
		Transport: &http.Transport{
			DialContext: outbound.Dialer(allow).DialContext, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Ping sends a message without an event.
func (s *Sender) Ping(ctx context.Context, w Webhook) Attempt {
	return s.send(ctx, w, message{id: "ping_" + rand.Text(), kind: "ping", at: s.now()}, 1)
}

// send makes one attempt at a message.
func (s *Sender) send(ctx context.Context, w Webhook, m message, number int) Attempt {
	began := time.Now()
	a := Attempt{Message: m.id, Kind: m.kind, Number: number}
	a.Result, a.RetryAfter = s.post(ctx, w, m)
	a.At, a.Latency = began, time.Since(began)
	return a
}

func (s *Sender) post(ctx context.Context, w Webhook, m message) (app.Result, time.Duration) {
	request, err := s.request(ctx, w, m)
	if err != nil {
		return app.Result{Code: app.Inconclusive, Detail: err.Error()}, 0
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return failure(ctx, err), 0
	}
	defer answer.Body.Close()
	r := app.Result{Passed: answer.StatusCode/100 == 2, Code: app.Code(answer.StatusCode)} //nolint:gosec // three digits
	if r.Passed {
		return r, 0
	}
	if word := firstWord(answer.Body); word != "" {
		r.Detail = "begins " + strconv.QuoteToASCII(word)
	}
	return r, readRetryAfter(answer.Header)
}

// readRetryAfter returns the wait that a receiver asks for, at most maxRetryAfter, in seconds or as a
// date (RFC 9110, 10.2.3). It compares a date with the receiver's own clock, if the answer has a Date.
// Without a valid value it returns 0.
func readRetryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxRetryAfter.Seconds()))) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return min(max(until.Sub(now), 0), maxRetryAfter)
}

// request encodes and signs a message: https://www.standardwebhooks.com
func (s *Sender) request(ctx context.Context, w Webhook, m message) (*http.Request, error) {
	at := s.now()
	body, err := m.render(w, at)
	if err != nil {
		return nil, err
	}
	signature, err := sign(w.Secret, m.id, at, body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the URL is invalid")
	}
	for name, value := range w.Headers {
		r.Header.Set(name, value)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "User-Agent": userAgent,
		standardwebhooks.HeaderWebhookID:        m.id,
		standardwebhooks.HeaderWebhookTimestamp: strconv.FormatInt(at.Unix(), 10),
		standardwebhooks.HeaderWebhookSignature: signature,
	} {
		r.Header.Set(name, value)
	}
	return r, nil
}

func sign(secret, id string, at time.Time, body []byte) (string, error) {
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return "", errors.New("the secret is invalid") // the library's error may quote it
	}
	return signer.Sign(id, at, body)
}

func firstWord(body io.Reader) string {
	b := make([]byte, maxWord)
	n, _ := io.ReadFull(body, b) // a short body is no error
	words := strings.Fields(string(b[:n]))
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// failure returns the result of an attempt without an answer. It does not quote the URL, which may
// contain a secret.
func failure(ctx context.Context, err error) app.Result {
	r := outbound.Failure(ctx, err)
	if r.Code == app.Stalled { // net/http may hide that the connection attempt timed out
		r.Code, r.Detail = app.TimedOut, ""
	}
	return r
}
