package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"rollcall/app/client"
)

type lsCmd struct {
	remote

	Service string `arg:"" optional:"" help:"Only this service."`
	Output  string `short:"o" enum:"table,json" default:"table" help:"table or json."`
}

// Run prints every instance, in any state.
func (c lsCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	names := []string{c.Service}
	if c.Service == "" {
		list, err := client.Read[client.ServiceList](api.Services(ctx))
		if err != nil {
			return err
		}
		names = names[:0]
		for _, service := range list.Services {
			names = append(names, service.Name)
		}
	}
	all := []client.Instance{}
	for _, name := range names {
		instances, err := api.InState(s.ctx, name, "any")
		if c.Service == "" && client.IsStatus(err, http.StatusNotFound) { // gone since the list of services
			continue
		}
		if err != nil {
			return err
		}
		all = append(all, instances...)
	}
	if c.Output == "json" {
		doc, err := json.MarshalIndent(all, "", "  ")
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
		_, err = fmt.Fprintf(s.out, "%s\n", doc)
		return err
	}
	return c.table(s, all)
}

func (lsCmd) table(s *session, all []client.Instance) error {
	t := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "SERVICE\tINSTANCE\tADDRESS\tSTATE\tSINCE\tVHOSTS")
	for _, i := range all {
		since := time.Since(i.Since).Round(time.Second)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", i.Service, i.Id, i.Address, i.Standing(), since, strings.Join(i.Hosts, " "))
	}
	return t.Flush()
}
