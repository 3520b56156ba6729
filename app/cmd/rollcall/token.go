package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"rollcall/app/client"
)

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Create a token and print it. It is shown only this once."`
	Ls     tokenLsCmd     `cmd:"" help:"List tokens. Secrets are never shown."`
	Revoke tokenRevokeCmd `cmd:"" help:"Revoke a token."`
}

type tokenCreateCmd struct {
	remote

	Name    string        `required:"" help:"Name of the token, shown as the actor of events."`
	Scope   []string      `required:"" help:"Scope: read, admin, register:SERVICE or host:VHOST; repeatable. A * ends a service and begins a vhost."`
	Expires time.Duration `help:"Time until it expires, such as 720h; never by default."`
}

// Run prints the token alone, for a script.
func (c tokenCreateCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	form := client.TokenForm{Name: c.Name, Scope: c.Scope}
	if c.Expires != 0 {
		expires := c.Expires.String()
		form.Expires = &expires
	}
	made, err := client.Read[client.Token](api.CreateTokenWithFormdataBody(ctx, form))
	if err != nil {
		return err
	}
	if made.Token == nil {
		return fmt.Errorf("the answer has no token")
	}
	if _, err := fmt.Fprintln(s.out, *made.Token); err != nil { // revoke a token that was not shown
		_, _ = client.Text(api.RevokeToken(context.WithoutCancel(ctx), made.Id))
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

type tokenLsCmd struct {
	remote
	output
}

// Run prints every token.
func (c tokenLsCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	list, err := client.Read[client.TokenList](api.Tokens(ctx))
	if err != nil {
		return err
	}
	t := table{head: []string{"ID", "NAME", "EXPIRES", "SCOPES", "CREATED"}, wide: 1}
	for _, token := range list.Tokens {
		expires := "never"
		if token.ExpiresAt != nil {
			expires = token.ExpiresAt.Format(time.RFC3339)
		}
		t.add(token.Id, token.Id, token.Name, expires, strings.Join(token.Scopes, " "), token.CreatedAt.Format(time.RFC3339))
	}
	return c.print(s, list.Tokens, t)
}

type tokenRevokeCmd struct {
	remote

	IDs []string `arg:"" name:"id" predictor:"token" help:"Ids of tokens, as token ls prints them."`
}

// Run revokes tokens.
func (c tokenRevokeCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	return eachID(s, c.IDs, func(id string) error {
		_, err := client.Text(api.RevokeToken(ctx, id))
		return err
	})
}
