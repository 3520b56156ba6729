package webhook

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"rollcall/app"
)

// Limits of the fields that a caller sets.
const (
	maxURL                             = 2048 // bytes
	secretPrefix                       = "whsec_"
	minSecret, maxSecret, secretLength = 24, 64, 32 // bytes
)

// newSecret returns a random secret in the format of Standard Webhooks.
func newSecret() string {
	key := make([]byte, secretLength)
	_, _ = rand.Read(key) // it never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// validate checks the fields that a caller sets. The caller has set a secret and a rate.
func validate(w Webhook) error {
	if err := validURL(w.URL); err != nil {
		return err
	}
	switch {
	case !validSecret(w.Secret):
		return app.Invalid("secret", "cannot be used", fmt.Sprintf("give whsec_ and the base64 of %d to %d bytes, or leave it out to get a new one", minSecret, maxSecret))
	case len(w.Headers) > app.MaxHeaders:
		return app.Invalid("header", fmt.Sprintf("is given %d times", len(w.Headers)), fmt.Sprintf("give at most %d", app.MaxHeaders))
	case w.Rate < 1 || w.Rate > MaxRate:
		return app.Invalid("rate", fmt.Sprintf("is %d", w.Rate), fmt.Sprintf("give a number from 1 to %d", MaxRate))
	}
	return app.ValidServices(w.Services)
}

func validSecret(secret string) bool {
	encoded, prefixed := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	return prefixed && err == nil && len(key) >= minSecret && len(key) <= maxSecret
}

// validURL checks the URL of a receiver.
func validURL(address string) error {
	if address == "" {
		return app.Invalid("url", "is missing", "give the URL that events are sent to")
	}
	if len(address) > maxURL {
		return app.Invalid("url", fmt.Sprintf("has %d bytes", len(address)), fmt.Sprintf("give at most %d", maxURL))
	}
	u, err := url.Parse(address)
	switch {
	case err != nil, !slices.Contains([]string{"http", "https"}, u.Scheme), u.Hostname() == "":
		return app.Invalid("url", fmt.Sprintf("is %.80q", address), "give a URL such as https://example.com/hooks")
	case u.User != nil:
		return app.Invalid("url", "has a user", "give a URL without one; the secret signs the messages")
	case strings.Contains(address, "#"):
		return app.Invalid("url", "has a fragment", "give a URL without one")
	}
	return validURLPort(u.Port())
}

func validURLPort(port string) error {
	if port == "" {
		return nil
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return app.Invalid("url", "has port "+port, "give a port from 1 to 65535")
	}
	return nil
}

// ParseHeader parses a header of a webhook's messages, "Name: value". Its FieldError never contains
// the value, which may be a password or a token.
func ParseHeader(line string) (name, value string, err error) { return app.ParseHeader("header", line) }
