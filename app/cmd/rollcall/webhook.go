package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"rollcall/app/client"
)

type webhookCmd struct {
	Ls         webhookLsCmd         `cmd:"" help:"List webhooks."`
	Create     webhookCreateCmd     `cmd:"" help:"Create a webhook and print its secret. It is shown only this once."`
	Test       webhookTestCmd       `cmd:"" help:"Send a ping, and print the answer."`
	Replay     webhookReplayCmd     `cmd:"" help:"Deliver past events again."`
	Deliveries webhookDeliveriesCmd `cmd:"" help:"List the last attempts, newest first."`
	Pause      webhookPauseCmd      `cmd:"" help:"Stop deliveries until resume."`
	Resume     webhookResumeCmd     `cmd:"" help:"Continue deliveries."`
	Rm         webhookRmCmd         `cmd:"" help:"Delete webhooks."`
}

type webhookLsCmd struct {
	remote
	output
}

// Run prints the webhooks, failing ones first.
func (c webhookLsCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	list, err := client.Read[client.WebhookList](api.Webhooks(ctx))
	if err != nil {
		return err
	}
	var t, failing table
	for _, w := range list.Webhooks {
		to := &t
		if w.Failures > 0 {
			to = &failing
		}
		to.add(w.Id, webhookRow(w)...)
	}
	t = table{head: webhookHead, wide: 3, rows: append(failing.rows, t.rows...), ids: append(failing.ids, t.ids...)}
	return c.print(s, list.Webhooks, t)
}

var webhookHead = []string{"WEBHOOK", "STATE", "FAILURES", "URL", "FORMAT", "KINDS", "SERVICES"}

func webhookRow(w client.Webhook) []string {
	failures := strconv.Itoa(w.Failures)
	if w.FailingSince != nil {
		failures += " in " + age(*w.FailingSince)
	}
	var kinds, services []string
	if w.Kinds != nil {
		for _, k := range *w.Kinds {
			kinds = append(kinds, string(k))
		}
	}
	if w.Services != nil {
		services = *w.Services
	}
	return []string{w.Id, string(w.State), failures, w.Url, string(w.Format), strings.Join(kinds, " "), strings.Join(services, " ")}
}

type webhookCreateCmd struct {
	remote

	Target      string   `arg:"" name:"url" help:"The URL of the receiver."`
	Format      string   `enum:"event,slack,alertmanager" default:"event" help:"event, slack or alertmanager."`
	Kind        []string `help:"Only events of this kind; repeatable."`
	Service     []string `predictor:"service" help:"Only events of this service; repeatable."`
	Header      []string `sep:"none" help:"A header of each message, as in 'Authorization: Bearer TOKEN'; repeatable."`
	Rate        int      `help:"Events of a minute before a digest."`
	Description string   `help:"A text for people."`
}

// Run prints the id and the secret, separated by a space.
func (c webhookCreateCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	form := client.WebhookForm{
		Url: c.Target, Format: optional[client.WebhookFormFormat](c.Format), Description: optional[string](c.Description),
		Kind: some(c.Kind), Service: some(c.Service), Header: some(c.Header),
	}
	if c.Rate > 0 {
		form.Rate = &c.Rate
	}
	w, err := client.Read[client.Webhook](api.CreateWebhookWithFormdataBody(ctx, form))
	if err != nil {
		return err
	}
	if err := s.printf("%s %s\n", w.Id, text(w.Secret)); err != nil { // delete a webhook whose secret was not shown
		_, _ = client.Text(api.DeleteWebhook(context.WithoutCancel(ctx), w.Id))
		return err
	}
	return nil
}

// some returns a pointer to a list, or nil if it is empty.
func some(list []string) *[]string {
	if len(list) == 0 {
		return nil
	}
	return &list
}

type webhookTestCmd struct {
	remote

	ID string `arg:"" predictor:"webhook" help:"The id of a webhook."`
}

// Run sends a ping. A receiver that refuses it is an error.
func (c webhookTestCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	a, err := client.Read[client.Attempt](api.TestWebhook(ctx, c.ID))
	if err != nil {
		return err
	}
	if !a.Passed {
		return answerNo{errors.New("the receiver refuses the ping: " + a.Reason)}
	}
	return s.printf("%s in %d ms\n", a.Reason, a.LatencyMs)
}

type webhookReplayCmd struct {
	remote

	ID    string `arg:"" predictor:"webhook" help:"The id of a webhook."`
	Event string `xor:"range" required:"" help:"The id of one event."`
	Since string `xor:"range" required:"" help:"The id of the first event, or a time such as 2030-01-02T15:04:05Z."`
	Until string `help:"The id of the last event, or a time; by default now."`
}

// Run starts a replay.
func (c webhookReplayCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	_, err = client.Text(api.Replay(ctx, c.ID, &client.ReplayParams{
		Event: optional[string](c.Event), Since: optional[string](c.Since), Until: optional[string](c.Until),
	}))
	if err != nil {
		return err
	}
	return s.printf("%s is sent the events again; see rollcall webhook deliveries %s\n", c.ID, c.ID)
}

type webhookDeliveriesCmd struct {
	remote
	output

	ID string `arg:"" predictor:"webhook" help:"The id of a webhook."`
}

// Run prints the last attempts.
func (c webhookDeliveriesCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	list, err := client.Read[client.AttemptList](api.Deliveries(ctx, c.ID))
	if err != nil {
		return err
	}
	t := table{head: []string{"TIME", "MESSAGE", "KIND", "NUMBER", "PASSED", "LATENCY", "REASON"}}
	for _, a := range list.Deliveries {
		t.add(a.Message, a.At.Local().Format("2006-01-02 15:04:05"), a.Message, a.Kind, strconv.Itoa(a.Number), strconv.FormatBool(a.Passed),
			fmt.Sprint(a.LatencyMs, "ms"), a.Reason)
	}
	return c.print(s, list.Deliveries, t)
}

// webhookIDs is a command for each of some webhooks.
type webhookIDs struct {
	remote

	IDs []string `arg:"" name:"id" predictor:"webhook" help:"Ids of webhooks."`
}

func (c webhookIDs) each(s *session, done string, call func(ctx context.Context, api *client.Client, id string) (*http.Response, error)) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	return eachID(s, c.IDs, func(id string) error {
		if _, err := client.Text(call(ctx, api, id)); err != nil {
			return err
		}
		return s.printf("%s %s\n", id, done)
	})
}

type webhookPauseCmd struct{ webhookIDs }

// Run pauses webhooks.
func (c webhookPauseCmd) Run(s *session) error {
	return c.each(s, "paused", func(ctx context.Context, api *client.Client, id string) (*http.Response, error) {
		return api.PauseWebhook(ctx, id)
	})
}

type webhookResumeCmd struct{ webhookIDs }

// Run resumes webhooks.
func (c webhookResumeCmd) Run(s *session) error {
	return c.each(s, "resumed", func(ctx context.Context, api *client.Client, id string) (*http.Response, error) {
		return api.ResumeWebhook(ctx, id)
	})
}

type webhookRmCmd struct{ webhookIDs }

// Run deletes webhooks.
func (c webhookRmCmd) Run(s *session) error {
	return c.each(s, "deleted", func(ctx context.Context, api *client.Client, id string) (*http.Response, error) {
		resp, err := api.Webhook(ctx, id) // DeleteWebhook answers 204 for an unknown id, too
		if err != nil || resp.StatusCode == http.StatusNotFound {
			return resp, err
		}
		_ = resp.Body.Close()
		return api.DeleteWebhook(ctx, id)
	})
}
