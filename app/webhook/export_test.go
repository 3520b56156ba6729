package webhook

import (
	"net/http"
	"time"
)

// AttemptTimeout is the timeout of an attempt.
const AttemptTimeout = attemptTimeout

// SetTransport replaces the transport of requests.
func (s *Sender) SetTransport(t http.RoundTripper) { s.client.Transport = t }

// SetTimeout sets the timeout of attempts.
func (s *Sender) SetTimeout(d time.Duration) { s.client.Timeout = d }
