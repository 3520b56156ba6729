package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
)

type lsCmd struct {
	remote

	Service string `arg:"" optional:"" help:"Only this service."`
	Output  string `short:"o" enum:"table,json" default:"table" help:"table or json."`
}

type instance struct {
	ID      string    `json:"id"`
	Service string    `json:"service"`
	Address string    `json:"address"`
	State   string    `json:"state"`
	Since   time.Time `json:"since"`
	Hosts   []string  `json:"hosts"`

	Flapping *struct {
		Until *time.Time `json:"until"`
	} `json:"flapping"`
	Override *struct {
		Maintenance bool `json:"maintenance"`
	} `json:"override"`
	Last *struct {
		Reason string `json:"reason"`
	} `json:"last"`
}

// standing is the state, and whether it counts.
func (i instance) standing() string {
	state := i.State
	if f := i.Flapping; f != nil && (f.Until == nil || time.Now().Before(*f.Until)) {
		state += ",flapping"
	}
	if i.Override != nil && i.Override.Maintenance {
		state += ",maintenance"
	}
	return state
}

// Run prints every instance, in whatever state.
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
	all := []json.RawMessage{}
	for _, name := range names {
		var list struct{ Instances []json.RawMessage }
		err := c.get(s.ctx, "/v1/services/"+url.PathEscape(name)+"?state=any", &list)
		if c.Service == "" && isStatus(err, http.StatusNotFound) { // gone since they were listed
			continue
		}
		if err != nil {
			return err
		}
		all = append(all, list.Instances...)
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

func (lsCmd) table(s *session, all []json.RawMessage) error {
	t := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "SERVICE\tINSTANCE\tADDRESS\tSTATE\tSINCE\tVHOSTS")
	for _, doc := range all {
		var i instance
		if err := json.Unmarshal(doc, &i); err != nil {
			return fmt.Errorf("the answer is not what was expected: %w", err)
		}
		since := time.Since(i.Since).Round(time.Second)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", i.Service, i.ID, i.Address, i.standing(), since, strings.Join(i.Hosts, " "))
	}
	return t.Flush()
}
