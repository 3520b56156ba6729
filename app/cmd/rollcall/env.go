package main

import (
	"net/url"
)

type envCmd struct {
	remote

	Links  []string `arg:"" help:"Services, as name, name:alias or name:alias:port (the port that the program knows)."`
	Format string   `enum:"export,dotenv,json" default:"export" help:"export lines to eval, dotenv or json."`
}

// Run prints the variables that Docker links would have set.
func (c envCmd) Run(s *session) error {
	text, err := c.text(s.ctx, "/v1/env?"+url.Values{"link": c.Links, "format": {c.Format}}.Encode())
	if err != nil {
		return err
	}
	_, err = s.out.Write(text)
	return err
}
