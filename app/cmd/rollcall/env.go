package main

import (
	"rollcall/app/client"
)

type envCmd struct {
	remote

	Links  []string `arg:"" predictor:"service" help:"Services, as name, name:alias or name:alias:port (the port that the program knows)."`
	Format string   `enum:"export,dotenv,json" default:"export" help:"export lines to eval, dotenv or json."`
}

// Run prints the variables that Docker links would have set.
func (c envCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	format := client.LinkManyParamsFormat(c.Format)
	text, err := client.Text(api.LinkMany(ctx, &client.LinkManyParams{Link: c.Links, Format: &format}))
	if err != nil {
		return err
	}
	_, err = s.out.Write(text)
	return err
}
