package main

import (
	"context"
	"time"

	"rollcall/app/client"
)

const defaultURL = "http://127.0.0.1:8080"

// remote is the Rollcall that a command calls.
type remote struct {
	URL   string `env:"ROLLCALL_URL" default:"http://127.0.0.1:8080" help:"URL of Rollcall's API (${env})."`
	Token string `env:"ROLLCALL_TOKEN" help:"Bearer token (${env})."`
}

// answerWithin is how long a command waits for an answer to a call without ?wait.
const answerWithin = 10 * time.Second

// api returns a client of the API.
func (r remote) api() (*client.Client, error) { return client.New(r.URL, r.Token, client.Options{}) }

// client returns a client of the API, and a context for one short call.
func (r remote) client(ctx context.Context) (*client.Client, context.Context, context.CancelFunc, error) {
	c, err := r.api()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	return c, ctx, cancel, err
}
