package app

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Format is the format of a webhook's messages.
type Format string

// The formats.
const (
	EventFormat        Format = "event"        // events as in /v1/events
	SlackFormat        Format = "slack"        // a line of text for a Slack channel
	AlertmanagerFormat Format = "alertmanager" // alerts for Alertmanager's /api/v2/alerts
)

// Limits and defaults of webhooks.
const (
	DefaultRate  = 60
	MaxRate      = 10_000
	MaxWebhooks  = 200 // of a registry
	KeptAttempts = 100 // of a webhook, in its log

	maxURL                             = 2048 // bytes
	maxHeaders                         = 10
	maxHeaderValue                     = 4096 // bytes
	secretPrefix                       = "whsec_"
	minSecret, maxSecret, secretLength = 24, 64, 32 // bytes
)

// A Webhook is the subscription of a receiver to events, with the progress of its deliveries.
type Webhook struct {
	ID          string
	URL         string
	Secret      string // signs the messages; whsec_ and base64
	Format      Format
	Headers     map[string]string // sent with each message, by canonical name; the values are secrets
	Services    []string          // filter; empty: all services
	Kinds       []EventKind       // filter; empty: all kinds
	Rate        int               // events of a minute that are sent one by one; a digest contains the others
	Description string
	CreatedAt   time.Time
	Newer       bool // a newer version has written fields that this one does not know

	Paused   string    // why it is paused; empty: it is not
	Cursor   Revision  // the last event that was delivered or filtered out
	Minute   time.Time // the beginning of the minute of Told
	Told     int       // events that were sent one by one
	Repeated time.Time // Alertmanager: when the firing alerts were last repeated
	Failures int       // consecutive failed attempts
	Failing  time.Time // when the first of them was made
	Replay   Replay    // zero: none
	Due      time.Time // when the next attempt is due; zero: at the next event
}

// A Replay delivers the events after After, up to Until, once more.
type Replay struct{ After, Until Revision }

// Understood reports whether this version knows all fields and the format of the webhook, so that
// it can deliver.
func (w Webhook) Understood() bool {
	switch w.Format {
	case EventFormat, SlackFormat, AlertmanagerFormat:
		return !w.Newer
	}
	return false
}

// Wants reports whether an event passes the filters. No webhook receives events about itself.
func (w Webhook) Wants(e Event) bool {
	return e.Subject != w.ID &&
		(len(w.Services) == 0 || slices.Contains(w.Services, e.Service)) &&
		(len(w.Kinds) == 0 || slices.Contains(w.Kinds, e.Kind))
}

// An Attempt is one try to deliver a message.
type Attempt struct {
	Message string // the message's id, the same in each attempt
	Kind    string // the kind of its event, or digest, gap or ping
	Number  int    // 1 is the message's first
	Result

	RetryAfter time.Duration // as the receiver asked; zero: it did not
}

// NewWebhookSecret returns a random secret in the format of Standard Webhooks.
func NewWebhookSecret() string {
	key := make([]byte, secretLength)
	_, _ = rand.Read(key) // it never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// Validate checks the fields that a caller sets. The caller has set a secret and a rate.
func (w Webhook) Validate() error {
	if err := validURL(w.URL); err != nil {
		return err
	}
	switch {
	case !validSecret(w.Secret):
		return Invalid("secret", "cannot be used", fmt.Sprintf("give whsec_ and the base64 of %d to %d bytes, or leave it out to get a new one", minSecret, maxSecret))
	case len(w.Headers) > maxHeaders:
		return Invalid("header", fmt.Sprintf("is given %d times", len(w.Headers)), fmt.Sprintf("give at most %d", maxHeaders))
	case !within(w.Rate, 1, MaxRate):
		return Invalid("rate", fmt.Sprintf("is %d", w.Rate), fmt.Sprintf("give a number from 1 to %d", MaxRate))
	}
	for _, name := range w.Services {
		if err := ValidService(name); err != nil {
			return err
		}
	}
	return nil
}

func validSecret(secret string) bool {
	encoded, prefixed := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	return prefixed && err == nil && within(len(key), minSecret, maxSecret)
}

// validURL checks the URL of a receiver.
func validURL(address string) error {
	if address == "" {
		return Invalid("url", "is missing", "give the URL that events are sent to")
	}
	if len(address) > maxURL {
		return Invalid("url", fmt.Sprintf("has %d bytes", len(address)), fmt.Sprintf("give at most %d", maxURL))
	}
	u, err := url.Parse(address)
	switch {
	case err != nil, !slices.Contains([]string{"http", "https"}, u.Scheme), u.Hostname() == "":
		return Invalid("url", fmt.Sprintf("is %.80q", address), "give a URL such as https://example.com/hooks")
	case u.User != nil:
		return Invalid("url", "has a user", "give a URL without one; the secret signs the messages")
	case strings.Contains(address, "#"):
		return Invalid("url", "has a fragment", "give a URL without one")
	}
	return validURLPort(u.Port())
}

func validURLPort(port string) error {
	if port == "" {
		return nil
	}
	if n, err := strconv.Atoi(port); err != nil || !within(n, 1, 65535) {
		return Invalid("url", "has port "+port, "give a port from 1 to 65535")
	}
	return nil
}

// ownHeaders lists, by canonical name, the headers that the sender sets or that belong to the
// connection. The headers of Standard Webhooks begin with Webhook-.
var ownHeaders = []string{
	"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te",
	"Trailer", "Transfer-Encoding", "Upgrade", "User-Agent",
}

// ParseHeader parses a header of a webhook's messages, "Name: value". Its FieldError never contains
// the value, which may be a password or a token.
func ParseHeader(line string) (name, value string, err error) {
	name, value, found := strings.Cut(line, ":")
	name, value = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
	const want = "give a name and a value, such as Authorization: Bearer TOKEN"
	switch {
	case !found, value == "":
		return "", "", Invalid("header", "is not Name: value", want)
	case name == "", strings.ContainsFunc(name, notHeaderName):
		return "", "", Invalid("header", "has a name that HTTP does not allow", want)
	case slices.Contains(ownHeaders, name), strings.HasPrefix(name, "Webhook-"):
		return "", "", Invalid("header", "is "+name+", which Rollcall sets itself", "give another one, such as Authorization")
	case len(value) > maxHeaderValue:
		return "", "", Invalid("header", fmt.Sprintf("%s has %d bytes", name, len(value)), fmt.Sprintf("give at most %d", maxHeaderValue))
	case strings.ContainsFunc(value, notHeaderValue):
		return "", "", Invalid("header", name+" has characters other than visible ASCII", want)
	}
	return name, value, nil
}

func notHeaderName(r rune) bool {
	return notVisibleASCII(r) || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

func notHeaderValue(r rune) bool { return r > '~' || r < ' ' && r != '\t' }
