package view

import (
	"time"

	"rollcall/app/auth"
)

// Token is a token in an answer.
type Token struct {
	ID        string       `json:"id"`
	Name      string       `json:"name"`
	Scopes    []auth.Scope `json:"scopes"`
	CreatedAt *time.Time   `json:"created_at"`
	ExpiresAt *time.Time   `json:"expires_at,omitempty"`
	Token     string       `json:"token,omitempty"` // only in the answer to its creation
}

// TokenOf returns a token without its secret.
func TokenOf(t auth.Token) Token {
	return Token{ID: t.ID, Name: t.Name, Scopes: t.Scopes, CreatedAt: Instant(t.CreatedAt), ExpiresAt: Instant(t.ExpiresAt)}
}
