package app

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Format is how a webhook's messages are written.
type Format string

// The formats.
const (
	EventFormat        Format = "event"        // what happened, as /v1/events tells it
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
	secretPrefix                       = "whsec_"
	minSecret, maxSecret, secretLength = 24, 64, 32 // bytes
)

// A Webhook is a receiver that is told of events by HTTP, one after the other, and how
// far that is.
type Webhook struct {
	ID          string
	URL         string
	Secret      string // whsec_ and base64: what messages are signed with
	Format      Format
	Services    []string    // told of their events only; of all when empty
	Kinds       []EventKind // told of these only; of all when empty
	Rate        int         // events of a minute that are told one by one; the rest is told in a digest
	Description string
	CreatedAt   time.Time
	Newer       bool // a newer version has written fields that this one does not know

	Paused   string    // why it is told nothing; empty: it is told
	Cursor   Revision  // the last event that it has been told of, or need not be
	Minute   time.Time // when the minute began that Told counts
	Told     int       // events told one by one
	Failures int       // attempts that failed, in a row
	Failing  time.Time // when the first of those was made
	Replay   Replay    // zero: none
	Due      time.Time // when the next attempt is made; zero: when something happens
}

// A Replay tells events once more: those after After, up to Until.
type Replay struct{ After, Until Revision }

// Understood reports whether this version knows how to deliver to the webhook: all its fields
// and its format.
func (w Webhook) Understood() bool {
	switch w.Format {
	case EventFormat, SlackFormat, AlertmanagerFormat:
		return !w.Newer
	}
	return false
}

// Wants reports whether an event passes the filters. No webhook is told of itself.
func (w Webhook) Wants(e Event) bool {
	return e.Subject != w.ID &&
		(len(w.Services) == 0 || slices.Contains(w.Services, e.Service)) &&
		(len(w.Kinds) == 0 || slices.Contains(w.Kinds, e.Kind))
}

// An Attempt is one message, sent once.
type Attempt struct {
	Message string // the message's id, the same with every attempt
	Kind    string // what it tells: the kind of an event, or digest, gap or ping
	Number  int    // 1 is the message's first
	Result

	RetryAfter time.Duration // what the receiver asked for; zero: nothing
}

// validate checks what a caller gave; a secret and a rate are there by now.
func (w Webhook) validate() error {
	u, err := url.Parse(w.URL)
	switch port := 0; {
	case w.URL == "":
		return invalid("url", "is missing", "give the URL that events are sent to")
	case len(w.URL) > maxURL:
		return invalid("url", fmt.Sprintf("has %d bytes", len(w.URL)), fmt.Sprintf("give at most %d", maxURL))
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return invalid("url", fmt.Sprintf("is %.80q", w.URL), "give a URL such as https://example.com/hooks")
	case u.User != nil:
		return invalid("url", "has a user", "give a URL without: messages are signed with the secret")
	case strings.Contains(w.URL, "#"):
		return invalid("url", "has a fragment", "give a URL without")
	case u.Port() != "":
		if port, err = strconv.Atoi(u.Port()); err != nil || port < 1 || port > 65535 {
			return invalid("url", "has port "+u.Port(), "give a port from 1 to 65535")
		}
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(w.Secret, secretPrefix))
	if err != nil || !strings.HasPrefix(w.Secret, secretPrefix) || len(key) < minSecret || len(key) > maxSecret {
		return invalid("secret", "cannot be used", fmt.Sprintf("give whsec_ and the base64 of %d to %d bytes, or leave it out to be given one", minSecret, maxSecret))
	}
	if w.Rate < 1 || w.Rate > MaxRate {
		return invalid("rate", fmt.Sprintf("is %d", w.Rate), fmt.Sprintf("give a number from 1 to %d", MaxRate))
	}
	for _, name := range w.Services {
		if err := validService(name); err != nil {
			return err
		}
	}
	return nil
}
