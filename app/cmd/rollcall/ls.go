package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
)

// remote is what a command needs to talk to a running Rollcall.
type remote struct {
	URL string `env:"ROLLCALL_URL" default:"http://127.0.0.1:8080" help:"Where Rollcall's API is (${env})."`
}

// get reads a JSON answer. An error is the problem that the server described.
func (r remote) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	target := strings.TrimSuffix(r.URL, "/") + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return fmt.Errorf("ROLLCALL_URL: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no answer from ROLLCALL_URL: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var problem struct{ Title, Detail string }
		if json.Unmarshal(body, &problem) == nil && problem.Title != "" {
			return fmt.Errorf("%s: %s", problem.Title, problem.Detail)
		}
		return errors.New(resp.Status)
	}
	return json.Unmarshal(body, into)
}

type lsCmd struct {
	remote

	Service string `arg:"" optional:"" help:"Only this service."`
}

type instance struct {
	ID      string    `json:"id"`
	Address string    `json:"address"`
	State   string    `json:"state"`
	Since   time.Time `json:"since"`
	Hosts   []string  `json:"hosts"`
}

// Run prints a line for every instance, in whatever state.
func (c lsCmd) Run(s *session) error {
	names := []string{c.Service}
	if c.Service == "" {
		var list struct{ Services []struct{ Name string } }
		if err := c.get(s.ctx, "/v1/services", &list); err != nil {
			return err
		}
		names = names[:0]
		for _, service := range list.Services {
			names = append(names, service.Name)
		}
	}
	table := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "SERVICE\tINSTANCE\tADDRESS\tSTATE\tSINCE\tVHOSTS")
	for _, name := range names {
		var list struct{ Instances []instance }
		if err := c.get(s.ctx, "/v1/services/"+url.PathEscape(name)+"?state=any", &list); err != nil {
			return err
		}
		for _, i := range list.Instances {
			since := time.Since(i.Since).Round(time.Second)
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", name, i.ID, i.Address, i.State, since, strings.Join(i.Hosts, " "))
		}
	}
	return table.Flush()
}
