package webhook

import (
	"net/http"
	"time"
)

// AttemptTimeout is how long an attempt may take.
const AttemptTimeout = attemptTimeout

// SetTransport has requests made by t.
func (s *Sender) SetTransport(t http.RoundTripper) { s.client.Transport = t }

// SetTimeout has attempts take no longer than d.
func (s *Sender) SetTimeout(d time.Duration) { s.client.Timeout = d }
