package redisstore

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/auth"
)

//go:embed lua/token.lua
var tokenSource string

var tokenScript = redis.NewScript(tokenSource)

// Tokens implements auth.Store.
type Tokens struct{ *Store }

var _ auth.Store = Tokens{}

// Tokens returns the store of the tokens.
func (s *Store) Tokens() Tokens { return Tokens{s} }

// tokenRecord is the stored form of a token. Times are in ms since 1970. Add a field with
// omitempty. In a process of a version without the field, a token that has it has no scope,
// because the field may be a restriction.
type tokenRecord struct {
	Name    string       `json:"name"`
	Hash    []byte       `json:"hash"` // base64
	Scopes  []auth.Scope `json:"scopes"`
	Created int64        `json:"created"`
	Expires int64        `json:"expires,omitempty"`
}

// Add adds a token; see auth.Store.
func (t Tokens) Add(ctx context.Context, token auth.Token, e app.Event) error {
	r := tokenRecord{Name: token.Name, Hash: token.Hash, Scopes: token.Scopes, Created: token.CreatedAt.UnixMilli()}
	if !token.ExpiresAt.IsZero() {
		r.Expires = token.ExpiresAt.UnixMilli()
	}
	doc, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode token %s: %w", token.ID, err)
	}
	added, err := t.set(ctx, token.ID, string(doc), e)
	if err == nil && !added {
		err = &app.FieldError{
			Field: "name", Held: true, Problem: fmt.Sprintf("is one too many: there are %d tokens", auth.MaxTokens),
			Want: "revoke unused tokens",
		}
	}
	return err
}

// Remove removes a token; see auth.Store.
func (t Tokens) Remove(ctx context.Context, id string, e app.Event) error {
	removed, err := t.set(ctx, id, "", e)
	if err == nil && !removed {
		err = fmt.Errorf("token %s: %w", id, app.ErrNotFound)
	}
	return err
}

func (t Tokens) set(ctx context.Context, id, doc string, e app.Event) (bool, error) {
	event, err := encodeEvent(e)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	done, err := tokenScript.Run(ctx, t.rdb, []string{t.keys.tokens(), t.keys.events()}, id, doc, auth.MaxTokens, event, keepEvents).Bool()
	if err != nil {
		return false, wrap("set token "+id, err)
	}
	return done, nil
}

// Read returns all tokens and the secret from which the keys of instances are derived; see auth.Store.
func (t Tokens) Read(ctx context.Context) ([]auth.Token, string, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	var known *redis.StringCmd
	var docs *redis.MapStringStringCmd
	cmds, err := t.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		known, docs = p.Get(ctx, t.keys.secret()), p.HGetAll(ctx, t.keys.tokens())
		return nil
	})
	if err := failed(cmds, err, noValue); err != nil {
		return nil, "", wrap("read tokens", err)
	}
	secret := known.Val()
	if secret == "" {
		if secret, err = t.random(ctx, t.keys.secret()); err != nil {
			return nil, "", err
		}
	}
	var tokens []auth.Token
	for id, doc := range docs.Val() {
		var r tokenRecord
		unknown, err := unmarshal(doc, &r)
		if err != nil { // the other tokens stay valid
			t.log.ErrorContext(ctx, "cannot read a token; calls with it are refused", "token", id, "err", err)
			continue
		}
		token := auth.Token{ID: id, Name: r.Name, Hash: r.Hash, Scopes: r.Scopes, CreatedAt: time.UnixMilli(r.Created)}
		if unknown != "" {
			token.Scopes = nil
		}
		if r.Expires > 0 {
			token.ExpiresAt = time.UnixMilli(r.Expires)
		}
		tokens = append(tokens, token)
	}
	return tokens, secret, nil
}
