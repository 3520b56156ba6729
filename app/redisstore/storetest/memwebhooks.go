package storetest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"rollcall/app"
	"rollcall/app/webhook"
)

// MemWebhooks is a Store in memory, for tests in a bubble of time.
type MemWebhooks struct {
	now func() time.Time

	mu     sync.Mutex
	hooks  map[string]*memHook
	events []app.Event
	cut    bool // events were removed
	claims int
	down   bool
}

type memHook struct {
	webhook.Webhook
	token    string
	lease    time.Time // end of the claim
	attempts []webhook.Attempt
}

// NewMemWebhooks returns an empty store.
func NewMemWebhooks(now func() time.Time) *MemWebhooks {
	return &MemWebhooks{now: now, hooks: map[string]*memHook{}}
}

// AppendEvent adds an event.
func (m *MemWebhooks) AppendEvent(_ context.Context, e app.Event) (app.Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tell(e), nil
}

func (m *MemWebhooks) tell(e app.Event) app.Revision {
	ms := m.now().UnixMilli()
	n := 0
	for _, earlier := range slices.Backward(m.events) {
		if earlier.Revision.Time().UnixMilli() != ms {
			break
		}
		n++
	}
	e.Revision = app.Revision(fmt.Sprintf("%d-%d", ms, n))
	m.events = append(m.events, e)
	return e.Revision
}

// Cut removes all events but the last n.
func (m *MemWebhooks) Cut(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events, m.cut = m.events[len(m.events)-n:], true
}

// Down makes every call fail, or succeed again.
func (m *MemWebhooks) Down(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

// hook returns a webhook. The caller holds the lock.
func (m *MemWebhooks) hook(id string) (*memHook, error) {
	if m.down {
		return nil, app.ErrUnavailable
	}
	h, ok := m.hooks[id]
	if !ok {
		return nil, fmt.Errorf("webhook %s: %w", id, app.ErrNotFound)
	}
	return h, nil
}

func (m *MemWebhooks) tip() app.Revision {
	if len(m.events) == 0 {
		return "0-0"
	}
	return m.events[len(m.events)-1].Revision
}

// Events implements webhook.EventLog.
func (m *MemWebhooks) Events(_ context.Context, after app.Revision, limit int) ([]app.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, app.ErrUnavailable
	}
	if m.cut && after.Compare("0-0") > 0 && after.Compare(m.events[0].Revision.Before()) < 0 {
		return nil, &app.TrimmedError{First: m.events[0].Revision}
	}
	from, found := slices.BinarySearchFunc(m.events, after, func(e app.Event, r app.Revision) int { return e.Revision.Compare(r) })
	if found {
		from++
	}
	return slices.Clone(m.events[from:min(from+limit, len(m.events))]), nil
}

// Add implements webhook.Store, like the following methods.
func (m *MemWebhooks) Add(_ context.Context, w webhook.Webhook) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.hooks) >= webhook.MaxWebhooks {
		return &app.FieldError{Field: "url", Held: true, Problem: "is more than " + strconv.Itoa(webhook.MaxWebhooks)}
	}
	w.Cursor = m.tip()
	m.hooks[w.ID] = &memHook{Webhook: w}
	return nil
}

// Get returns a webhook.
func (m *MemWebhooks) Get(_ context.Context, id string) (webhook.Webhook, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, err := m.hook(id)
	if err != nil {
		return webhook.Webhook{}, err
	}
	return h.Webhook, nil
}

// List returns all webhooks.
func (m *MemWebhooks) List(context.Context) ([]webhook.Webhook, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []webhook.Webhook
	for _, h := range m.hooks {
		all = append(all, h.Webhook)
	}
	slices.SortFunc(all, func(a, b webhook.Webhook) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return all, nil
}

// Remove removes a webhook.
func (m *MemWebhooks) Remove(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.hook(id)
	delete(m.hooks, id)
	return err
}

// Pause pauses or resumes a webhook.
func (m *MemWebhooks) Pause(_ context.Context, id, reason string, e app.Event) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, err := m.hook(id)
	if err != nil || (h.Paused == "") == (reason == "") {
		return false, err
	}
	if h.Paused = reason; reason == "" {
		h.Failures, h.Failing, h.Repeated, h.Due = 0, time.Time{}, time.Time{}, m.now()
	}
	m.tell(e)
	return true, nil
}

// Replay begins a replay.
func (m *MemWebhooks) Replay(_ context.Context, id string, r webhook.Replay) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, err := m.hook(id)
	if err == nil && h.Replay != (webhook.Replay{}) {
		err = app.ErrConflict
	}
	if err != nil {
		return err
	}
	if h.Replay = r; h.Failures == 0 {
		h.Due = m.now()
	}
	return nil
}

// Attempts returns the last attempts.
func (m *MemWebhooks) Attempts(_ context.Context, id string) ([]webhook.Attempt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, err := m.hook(id)
	if err != nil {
		return nil, err
	}
	return slices.Clone(h.attempts), nil
}

// Claim implements webhook.Outbox.
func (m *MemWebhooks) Claim(_ context.Context, limit int) (claims []webhook.DeliveryClaim, next time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, time.Time{}, app.ErrUnavailable
	}
	now := m.now()
	for _, id := range slices.Sorted(maps.Keys(m.hooks)) {
		h := m.hooks[id]
		idle := h.Due.IsZero() || !h.Repeated.IsZero() && h.Failures == 0
		due := !h.Due.IsZero() && !h.Due.After(now) || idle && h.Cursor != m.tip()
		if h.token != "" {
			due = !h.lease.After(now)
		}
		if h.Paused != "" {
			if due {
				h.token, h.Due = "", time.Time{}
			}
			continue
		}
		if due && len(claims) < limit {
			m.claims++
			h.token, h.lease = strconv.Itoa(m.claims), now.Add(webhook.DeliveryLease)
			w := h.Webhook
			w.Due = time.Time{}
			claims = append(claims, webhook.DeliveryClaim{Webhook: w, Token: h.token})
		}
		at := h.Due
		if h.token != "" {
			at = h.lease
		}
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return claims, next, nil
}

// Complete ends a claim; see webhook.Outbox.
func (m *MemWebhooks) Complete(_ context.Context, c webhook.DeliveryClaim, d webhook.Delivery) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return app.ErrUnavailable
	}
	h, ok := m.hooks[c.Webhook.ID]
	if !ok || h.token != c.Token {
		return app.ErrClaimLost
	}
	w := d.Webhook
	h.token = ""
	h.Cursor, h.Minute, h.Told, h.Failures, h.Failing, h.Due = w.Cursor, w.Minute, w.Told, w.Failures, w.Failing, w.Due
	h.Repeated = w.Repeated
	if w.Paused != "" {
		h.Paused = w.Paused
	}
	if c.Webhook.Replay != (webhook.Replay{}) {
		h.Replay = w.Replay
	} else if h.Replay != (webhook.Replay{}) {
		h.Due = m.now()
	}
	if h.Paused != "" {
		h.Due = time.Time{}
	}
	if d.Attempt != nil {
		h.attempts = append([]webhook.Attempt{*d.Attempt}, h.attempts...)
		h.attempts = h.attempts[:min(len(h.attempts), webhook.KeptAttempts)]
	}
	if d.Event != nil {
		m.tell(*d.Event)
	}
	return nil
}
