package main

import (
	"context"
	"net/url"
)

type envCmd struct {
	remote

	Links  []string `arg:"" help:"Services, as name, name:alias or name:alias:port (the port that the program knows)."`
	Format string   `enum:"export,dotenv,json" default:"export" help:"export lines to eval, dotenv or json."`
}

// Run prints the variables that Docker links would have set.
func (c envCmd) Run(s *session) error {
	text, err := c.variables(s.ctx, c.Links, c.Format)
	if err != nil {
		return err
	}
	_, err = s.out.Write(text)
	return err
}

func (r remote) variables(ctx context.Context, links []string, format string) ([]byte, error) {
	return r.text(ctx, "/v1/env?"+url.Values{"link": links, "format": {format}}.Encode())
}
