// Package auth has the tokens of a registry, their scopes, and the callers that present them.
package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"rollcall/app"
)

// Limits of tokens.
const (
	MaxTokens = 1000 // of a registry: every process that serves the API keeps all of them
	MaxScopes = 50   // of a token

	tokenPrefix = "rct_" // rct_<id>_<secret>
	keyPrefix   = "rci_" // rci_<instance>_<first registered, ms, base 36>_<mac>
	firstToken  = "admin"
)

// A Token lets who has it do what its scopes say. What it is itself nobody knows but who
// has it.
type Token struct {
	ID        string
	Name      string // in the history
	Hash      []byte // SHA-256
	Scopes    []Scope
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
}

func (t Token) expired(now time.Time) bool { return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt) }

// A Store keeps tokens.
type Store interface {
	// Add adds a token and an event. It returns a FieldError when there are MaxTokens.
	Add(ctx context.Context, t Token, e app.Event) error
	// Remove removes a token and adds an event, or returns app.ErrNotFound.
	Remove(ctx context.Context, id string, e app.Event) error
	// Read returns all tokens, and what instances' keys are made with: always the same.
	Read(ctx context.Context) (tokens []Token, secret string, err error)
}

// Tokens knows callers by their tokens and keys, and has the verbs that people change
// tokens with. It decides on what it has read last, so that no call has to ask the store;
// somebody has to Refresh it. The zero value is not usable.
type Tokens struct {
	store    Store
	first    []byte // hash of the token that is in the configuration; nil: there is none
	required bool
	now      func() time.Time
	onCommit func(context.Context, app.Event)

	read atomic.Pointer[ring]
}

// ring is what was read.
type ring struct {
	tokens map[string]Token
	secret []byte
}

// NewTokens returns the tokens of a store, and a first one that may do everything unless
// it is empty. now and onCommit are as for NewRegistry.
func NewTokens(store Store, first string, required bool, now func() time.Time, onCommit func(context.Context, app.Event)) *Tokens {
	t := &Tokens{store: store, required: required, now: now, onCommit: onCommit}
	if first != "" {
		t.first = hashOf(first)
	}
	t.read.Store(&ring{})
	return t
}

func hashOf(credential string) []byte {
	h := sha256.Sum256([]byte(credential))
	return h[:]
}

// Required reports whether who has no token may do nothing.
func (t *Tokens) Required() bool { return t.required }

// Refresh reads the tokens anew. While it cannot, those that are known go on counting.
func (t *Tokens) Refresh(ctx context.Context) error {
	tokens, secret, err := t.store.Read(ctx)
	if err != nil {
		return err
	}
	r := &ring{tokens: map[string]Token{}, secret: []byte(secret)}
	for _, token := range tokens {
		r.tokens[token.ID] = token
	}
	t.read.Store(r)
	return nil
}

// HasAdmin reports whether there is a token that may create others.
func (t *Tokens) HasAdmin() bool {
	for _, token := range t.read.Load().tokens {
		if slices.Contains(token.Scopes, ScopeAdmin) && !token.expired(t.now()) {
			return true
		}
	}
	return t.first != nil
}

// Caller returns who has a token or an instance's key, if it is one.
func (t *Tokens) Caller(credential string) (Caller, bool) {
	if subtle.ConstantTimeCompare(hashOf(credential), t.first) == 1 {
		return Caller{Name: firstToken, Token: firstToken, Scopes: []Scope{ScopeAdmin}}, true
	}
	if text, ok := strings.CutPrefix(credential, tokenPrefix); ok {
		id, _, _ := strings.Cut(text, "_")
		token, known := t.read.Load().tokens[id]
		if !known || subtle.ConstantTimeCompare(hashOf(credential), token.Hash) != 1 || token.expired(t.now()) {
			return Caller{}, false
		}
		return Caller{Name: token.Name, Token: token.ID, Scopes: token.Scopes}, true
	}
	return t.keyHolder(credential)
}

func (t *Tokens) keyHolder(credential string) (Caller, bool) {
	text, ok := strings.CutPrefix(credential, keyPrefix)
	text, _, whole := cutLast(text)
	id, since, two := cutLast(text)
	registered, err := strconv.ParseInt(since, 36, 64)
	if len(t.read.Load().secret) == 0 || !ok || !whole || !two || err != nil || subtle.ConstantTimeCompare([]byte(t.key(id, registered)), []byte(credential)) != 1 {
		return Caller{}, false
	}
	return Caller{Name: "key:" + id, instance: id, registered: registered}, true
}

func cutLast(s string) (before, after string, found bool) {
	n := max(strings.LastIndexByte(s, '_'), 0)
	return s[:n], strings.TrimPrefix(s[n:], "_"), n > 0
}

// KeyOf returns the key of an instance, good for itself only and as long as it is
// registered. It is empty where nobody needs one.
func (t *Tokens) KeyOf(i app.Instance) string {
	if !t.required {
		return ""
	}
	return t.key(i.ID, i.RegisteredAt.UnixMilli())
}

func (t *Tokens) key(id string, registered int64) string {
	text := keyPrefix + id + "_" + strconv.FormatInt(registered, 36)
	mac := hmac.New(sha256.New, t.read.Load().secret)
	mac.Write([]byte(text))
	return text + "_" + hex.EncodeToString(mac.Sum(nil))
}

// Create makes a token, which is returned this once and never again; it counts for ever
// when expires is zero.
func (t *Tokens) Create(ctx context.Context, name string, scopes []Scope, expires time.Duration) (Token, string, error) {
	if err := validToken(name, scopes, expires); err != nil {
		return Token{}, "", err
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // it never fails
	token := Token{ID: strings.ToLower(rand.Text()[:12]), Name: name, Scopes: scopes, CreatedAt: t.now()}
	text := tokenPrefix + token.ID + "_" + base64.RawURLEncoding.EncodeToString(secret)
	token.Hash = hashOf(text)
	until := ""
	if expires > 0 {
		token.ExpiresAt = token.CreatedAt.Add(expires).Truncate(time.Millisecond)
		until = ", until " + token.ExpiresAt.UTC().Format(time.RFC3339)
	}
	event := t.eventOf(ctx, app.EventCreated, token, fmt.Sprintf("%s may %s%s", name, joined(scopes), until))
	if err := t.store.Add(ctx, token, event); err != nil {
		return Token{}, "", fmt.Errorf("create token: %w", err)
	}
	t.changed(ctx, event)
	return token, text, nil
}

func validToken(name string, scopes []Scope, expires time.Duration) error {
	switch {
	case name == "":
		return invalid("name", "is missing", "say who has the token, as the history is to show it")
	case name == firstToken:
		return invalid("name", "is admin, which ROLLCALL_ADMIN_TOKEN is called", "give another one")
	case len(scopes) == 0:
		return invalid("scope", "is missing", "say what the token may do, as in register:web")
	case len(scopes) > MaxScopes:
		return invalid("scope", fmt.Sprintf("is given %d times", len(scopes)), fmt.Sprintf("give at most %d", MaxScopes))
	case expires < 0:
		return invalid("expires", "is "+expires.String(), "give a duration such as 720h, or leave it out")
	}
	for _, s := range scopes {
		if err := s.validate(); err != nil {
			return err
		}
	}
	return app.ValidID("name", name)
}

func joined(scopes []Scope) string {
	texts := make([]string, len(scopes))
	for n, s := range scopes {
		texts[n] = string(s)
	}
	return strings.Join(texts, " ")
}

// Revoke ends a token, or returns app.ErrNotFound.
func (t *Tokens) Revoke(ctx context.Context, id string) error {
	tokens, _, err := t.store.Read(ctx)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(tokens, func(token Token) bool { return token.ID == id })
	if n < 0 {
		return fmt.Errorf("token %.80q: %w", id, app.ErrNotFound)
	}
	event := t.eventOf(ctx, app.EventRevoked, tokens[n], tokens[n].Name+" was revoked")
	if err := t.store.Remove(ctx, id, event); err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	t.changed(ctx, event)
	return nil
}

// List returns all tokens, oldest first.
func (t *Tokens) List(ctx context.Context) ([]Token, error) {
	tokens, _, err := t.store.Read(ctx)
	slices.SortFunc(tokens, func(a, b Token) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID)) })
	return tokens, err
}

func (t *Tokens) eventOf(ctx context.Context, kind app.EventKind, token Token, reason string) app.Event {
	return app.Event{Kind: kind, At: t.now(), Subject: token.ID, Reason: reason, Actor: app.CallerOf(ctx).Actor()}
}

// changed has this process know at once what others will within a second.
func (t *Tokens) changed(ctx context.Context, e app.Event) {
	_ = t.Refresh(ctx) // or the next one does
	t.onCommit(ctx, e)
}
