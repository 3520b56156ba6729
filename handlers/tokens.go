package handlers

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app/auth"
	"rollcall/handlers/input"
	"rollcall/handlers/view"
)

// tokens handles the calls on tokens.
type tokens struct{ tokens *auth.Tokens }

// create creates a token. No other answer shows the token itself.
func (h tokens) create(c echo.Context) error {
	var given struct {
		Name    string         `field:"name"`
		Scopes  []string       `field:"scope"`
		Expires *time.Duration `field:"expires" validate:"omitempty,min=1s"`
	}
	if err := input.QueryAndBody(c.Request(), &given); err != nil {
		return err
	}
	scopes := make([]auth.Scope, len(given.Scopes))
	for n, s := range given.Scopes {
		scopes[n] = auth.Scope(s)
	}
	var expires time.Duration
	if given.Expires != nil {
		expires = *given.Expires
	}
	token, text, err := h.tokens.Create(c.Request().Context(), given.Name, scopes, expires)
	if err != nil {
		return err
	}
	v := view.TokenOf(token)
	v.Token = text
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	return c.JSON(http.StatusCreated, v)
}

// list answers with the tokens, without their secrets.
func (h tokens) list(c echo.Context) error {
	all, err := h.tokens.List(c.Request().Context())
	if err != nil {
		return err
	}
	views := make([]view.Token, len(all))
	for n, t := range all {
		views[n] = view.TokenOf(t)
	}
	return c.JSON(http.StatusOK, map[string]any{"tokens": views})
}

// revoke revokes a token. An unknown id is an error, because the token that the caller means stays valid.
func (h tokens) revoke(c echo.Context) error {
	if err := h.tokens.Revoke(c.Request().Context(), c.Param("id")); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
