package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
)

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Create a token, and print it this once."`
	Ls     tokenLsCmd     `cmd:"" help:"List the tokens, without what they are."`
	Revoke tokenRevokeCmd `cmd:"" help:"Have a token count no more."`
}

type tokenCreateCmd struct {
	remote

	Name    string        `required:"" help:"Who has it, as the history is to show it."`
	Scope   []string      `required:"" help:"What it may do: read, admin, register:SERVICE or host:VHOST; repeatable. * ends a service and begins a vhost."`
	Expires time.Duration `help:"How long it counts, such as 720h; for ever without."`
}

// Run prints the token alone, for a script to keep.
func (c tokenCreateCmd) Run(s *session) error {
	form := url.Values{"name": {c.Name}, "scope": c.Scope}
	if c.Expires != 0 {
		form.Set("expires", c.Expires.String())
	}
	body, err := c.change(s.ctx, http.MethodPost, "/v1/tokens", form)
	if err != nil {
		return err
	}
	var made struct{ ID, Token string }
	if err := json.Unmarshal(body, &made); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	if _, err := fmt.Fprintln(s.out, made.Token); err != nil {
		_, _ = c.change(context.WithoutCancel(s.ctx), http.MethodDelete, "/v1/tokens/"+made.ID, nil) // nobody has it
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

type tokenLsCmd struct{ remote }

// Run prints every token.
func (c tokenLsCmd) Run(s *session) error {
	var list struct {
		Tokens []struct {
			ID, Name  string
			Scopes    []string
			ExpiresAt *time.Time `json:"expires_at"`
		}
	}
	if err := c.get(s.ctx, "/v1/tokens", &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tEXPIRES\tSCOPES")
	for _, token := range list.Tokens {
		expires := "never"
		if token.ExpiresAt != nil {
			expires = token.ExpiresAt.Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", token.ID, token.Name, expires, strings.Join(token.Scopes, " "))
	}
	return t.Flush()
}

type tokenRevokeCmd struct {
	remote

	ID string `arg:"" help:"The token's id, as token ls prints it."`
}

// Run ends a token.
func (c tokenRevokeCmd) Run(s *session) error {
	_, err := c.change(s.ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(c.ID), nil)
	return err
}
