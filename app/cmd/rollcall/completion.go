package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/alecthomas/kong"
	completion "github.com/jotaen/kong-completion"
	"github.com/posener/complete"

	"rollcall/app/client"
)

type completionCmd struct{ completion.Completion }

// initZsh turns on zsh's completion if no start file has done so. bashcompinit, which the code of the library uses, needs it.
const initZsh = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i; }"

// Run prints how to turn on completion, or with -c the code that does so.
func (c *completionCmd) Run(ctx *kong.Context) error {
	if c.Code && c.Shell == "zsh" {
		fmt.Fprintln(ctx.Stdout, initZsh)
	}
	return c.Completion.Run(ctx)
}

// completeWithin is how long a completion may take: the shell waits for it.
const completeWithin = time.Second

// predictors returns the completions of live names and ids, from the Rollcall of the environment.
func predictors(ctx context.Context) []completion.Option {
	predict := func(name string, names func(context.Context, *client.Client) ([]string, error)) completion.Option {
		return completion.WithPredictor(name, complete.PredictFunc(func(complete.Args) []string {
			ctx, cancel := context.WithTimeout(ctx, completeWithin)
			defer cancel()
			url := os.Getenv("ROLLCALL_URL")
			if url == "" {
				url = defaultURL
			}
			api, err := client.New(url, os.Getenv("ROLLCALL_TOKEN"), client.Options{Once: true})
			if err != nil {
				return nil
			}
			found, _ := names(ctx, api)
			return found
		}))
	}
	return []completion.Option{predict("service", serviceNames), predict("instance", instanceIDs), predict("webhook", webhookIDsOf), predict("token", tokenIDs)}
}

func webhookIDsOf(ctx context.Context, api *client.Client) (ids []string, err error) {
	list, err := client.Read[client.WebhookList](api.Webhooks(ctx))
	for _, w := range list.Webhooks {
		ids = append(ids, w.Id)
	}
	return ids, err
}

func tokenIDs(ctx context.Context, api *client.Client) (ids []string, err error) {
	list, err := client.Read[client.TokenList](api.Tokens(ctx))
	for _, t := range list.Tokens {
		ids = append(ids, t.Id)
	}
	return ids, err
}
