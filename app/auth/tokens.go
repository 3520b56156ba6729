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

// A Token gives its holder the rights of its scopes. Only its SHA-256 is stored; the token itself
// cannot be recovered.
type Token struct {
	ID        string
	Name      string // in events
	Hash      []byte // SHA-256
	Scopes    []Scope
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
}

// expired reports whether the token has expired at now.
func (t Token) expired(now time.Time) bool { return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt) }

// A Store keeps tokens.
type Store interface {
	// Add adds a token and an event. It returns a FieldError if there are MaxTokens.
	Add(ctx context.Context, t Token, e app.Event) error
	// Remove removes a token and adds an event, or returns app.ErrNotFound.
	Remove(ctx context.Context, id string, e app.Event) error
	// Read returns all tokens, and the secret of the instances' keys, which never changes.
	Read(ctx context.Context) (tokens []Token, secret string, err error)
}

// Tokens authenticates callers by their tokens and keys, and has the verbs that change tokens. It
// decides by the tokens that Refresh read last, so that a call needs no read of the store. The zero
// value is not usable.
type Tokens struct {
	store    Store
	first    []byte // hash of the configured admin token; nil: none is configured
	required bool
	now      func() time.Time
	onCommit func(context.Context, app.Event)

	read atomic.Pointer[ring]
}

// ring is the result of Refresh.
type ring struct {
	tokens map[string]Token
	secret []byte
}

// NewTokens returns the tokens of a store. first is the configured admin token, which may do
// everything; empty: there is none. required says that calls without a token are refused. now and
// onCommit are as for registry.New.
func NewTokens(store Store, first string, required bool, now func() time.Time, onCommit func(context.Context, app.Event)) *Tokens {
	t := &Tokens{store: store, required: required, now: now, onCommit: onCommit}
	if first != "" {
		t.first = hashOf(first)
	}
	t.read.Store(&ring{})
	return t
}

// hashOf returns the SHA-256 of a token.
func hashOf(credential string) []byte {
	h := sha256.Sum256([]byte(credential))
	return h[:]
}

// Required reports whether calls without a token are refused.
func (t *Tokens) Required() bool { return t.required }

// Refresh reads the tokens again. If it fails, the tokens of the last read stay valid.
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

// HasAdmin reports whether there is a valid token with the scope admin.
func (t *Tokens) HasAdmin() bool {
	for _, token := range t.read.Load().tokens {
		if slices.Contains(token.Scopes, ScopeAdmin) && !token.expired(t.now()) {
			return true
		}
	}
	return t.first != nil
}

// Caller returns the holder of a token or of an instance's key. known is false if the credential is
// neither.
func (t *Tokens) Caller(credential string) (c Caller, known bool) {
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

// keyHolder returns the holder of an instance's key.
func (t *Tokens) keyHolder(credential string) (Caller, bool) {
	text, ok := strings.CutPrefix(credential, keyPrefix)
	text, _, whole := cutLast(text)
	id, since, two := cutLast(text)
	registered, err := strconv.ParseInt(since, 36, 64)
	if !ok || !whole || !two || err != nil || !t.isKey(credential, id, registered) {
		return Caller{}, false
	}
	return Caller{Name: "key:" + id, instance: id, registered: registered}, true
}

// isKey reports whether a credential is the key of an instance. Without a secret no credential is.
func (t *Tokens) isKey(credential, id string, registered int64) bool {
	return len(t.read.Load().secret) > 0 && subtle.ConstantTimeCompare([]byte(t.key(id, registered)), []byte(credential)) == 1
}

// cutLast splits s at its last underscore.
func cutLast(s string) (before, after string, found bool) {
	n := max(strings.LastIndexByte(s, '_'), 0)
	return s[:n], strings.TrimPrefix(s[n:], "_"), n > 0
}

// KeyOf returns the key of an instance. It gives the right to change that instance, while it is
// registered. KeyOf returns "" if no token is required.
func (t *Tokens) KeyOf(i app.Instance) string {
	if !t.required {
		return ""
	}
	return t.key(i.ID, i.RegisteredAt.UnixMilli())
}

// key returns the key of an instance by its id and the time of its first registration, in ms since
// 1970.
func (t *Tokens) key(id string, registered int64) string {
	text := keyPrefix + id + "_" + strconv.FormatInt(registered, 36)
	mac := hmac.New(sha256.New, t.read.Load().secret)
	mac.Write([]byte(text))
	return text + "_" + hex.EncodeToString(mac.Sum(nil))
}

// Create creates a token and returns it with its text. The text is not stored, so this is the only
// time that it is known. The token never expires if expires is zero.
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

// validToken checks the input of Create.
func validToken(name string, scopes []Scope, expires time.Duration) error {
	switch {
	case name == "":
		return invalid("name", "is missing", "give the name of its holder; events show it")
	case name == firstToken:
		return invalid("name", "is admin, the name of ROLLCALL_ADMIN_TOKEN", "give another name")
	case len(scopes) == 0:
		return invalid("scope", "is missing", "give a scope such as register:web")
	case len(scopes) > MaxScopes:
		return invalid("scope", fmt.Sprintf("is given %d times", len(scopes)), fmt.Sprintf("give at most %d", MaxScopes))
	case expires < 0:
		return invalid("expires", "is "+expires.String(), "give a duration such as 720h, or leave it out")
	}
	return cmp.Or(validScopes(scopes), app.ValidID("name", name))
}

func validScopes(scopes []Scope) error {
	for _, s := range scopes {
		if err := s.validate(); err != nil {
			return err
		}
	}
	return nil
}

// joined returns the scopes, separated by spaces.
func joined(scopes []Scope) string {
	texts := make([]string, len(scopes))
	for n, s := range scopes {
		texts[n] = string(s)
	}
	return strings.Join(texts, " ")
}

// Revoke revokes a token, or returns app.ErrNotFound.
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

// eventOf returns an event about a token.
func (t *Tokens) eventOf(ctx context.Context, kind app.EventKind, token Token, reason string) app.Event {
	return app.Event{Kind: kind, At: t.now(), Subject: token.ID, Reason: reason, Actor: app.CallerOf(ctx).Actor()}
}

// changed applies a change of the tokens to this process at once. Other processes read it within a
// second.
func (t *Tokens) changed(ctx context.Context, e app.Event) {
	_ = t.Refresh(ctx) // if it fails, the next refresh reads the change
	t.onCommit(ctx, e)
}
