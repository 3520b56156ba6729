package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"rollcall/app/client"
)

type registerCmd struct {
	remote
	output

	Fields []string      `arg:"" help:"Fields of the registration, as in service=web port=8080 host=shop.example."`
	Wait   time.Duration `help:"Wait this long until the instance is healthy, up to 5m."`
}

// Run registers an instance with the fields of the API, and prints what happens next.
func (c registerCmd) Run(s *session) error {
	form, err := formOf(c.Fields)
	if err != nil {
		return err
	}
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	var params client.RegisterParams
	if c.Wait > 0 {
		wait := c.Wait.String()
		params.Wait = &wait
		ctx, cancel = context.WithTimeout(s.ctx, c.Wait+answerWithin)
		defer cancel()
	}
	r, err := client.Read[client.Receipt](api.RegisterWithBody(ctx, &params, "application/x-www-form-urlencoded", strings.NewReader(form.Encode())))
	if err != nil {
		return err
	}
	t := table{head: []string{"SERVICE", "INSTANCE", "ADDRESS", "STATE", "NEXT"}}
	t.add(r.Id, r.Service, r.Id, r.Address, string(r.State), r.Next)
	return c.print(s, r, t)
}

func formOf(fields []string) (url.Values, error) {
	form := url.Values{}
	for _, field := range fields {
		name, value, ok := strings.Cut(field, "=")
		if !ok || name == "" {
			return nil, usageError{fmt.Errorf("%q is no field: write it as name=value, such as port=8080", field)}
		}
		form.Add(name, value)
	}
	return form, nil
}

// eachID calls a function for each id. It reports every error, and returns the first one.
func eachID(s *session, ids []string, call func(id string) error) error {
	var first error
	for _, id := range ids {
		err := call(id)
		switch {
		case err == nil:
		case s.ctx.Err() != nil:
			return s.ctx.Err()
		case first == nil:
			first = fmt.Errorf("%s: %w", id, err)
		default:
			fmt.Fprintf(s.err, "rollcall: %s: %v\n", id, err)
		}
	}
	return first
}

type deregisterCmd struct {
	remote

	IDs []string `arg:"" name:"id" predictor:"instance" help:"Ids of instances."`
}

// Run removes instances at once.
func (c deregisterCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	return eachID(s, c.IDs, func(id string) error {
		resp, err := client.Accepted(api.Deregister(ctx, id, nil))
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.Header.Get("Rollcall-Removed") == "false" {
			ids, _ := instanceIDs(ctx, api)
			return suggesting(answerNo{errors.New("no instance has this id")}, id, ids)
		}
		return s.printf("%s deregistered\n", id)
	})
}

type drainCmd struct {
	remote
	output

	IDs  []string      `arg:"" name:"id" predictor:"instance" help:"Ids of instances."`
	Hold time.Duration `help:"How long an instance goes on answering the requests under way."`
	Keep int           `help:"Drain only while this many other instances of the service are healthy."`
}

// maxHold is the longest drain period of the API.
const maxHold = 5 * time.Minute

// Run drains instances, one after the other. It waits until each is drained.
func (c drainCmd) Run(s *session) error {
	var params client.DrainParams
	if c.Hold > 0 {
		hold := c.Hold.String()
		params.Hold = &hold
	}
	if c.Keep > 0 {
		params.Keep = &c.Keep
	}
	return changes{c.remote, c.output, c.IDs, maxHold}.run(s, func(ctx context.Context, api *client.Client, id string) (*http.Response, error) {
		return api.Drain(ctx, id, &params)
	})
}

// changes is a command that changes instances and prints them.
type changes struct {
	remote
	output

	ids   []string
	waits time.Duration // how long a call may wait before it is answered
}

func (c changes) run(s *session, call func(ctx context.Context, api *client.Client, id string) (*http.Response, error)) error {
	api, err := c.api()
	if err != nil {
		return err
	}
	all := []client.Instance{}
	first := eachID(s, c.ids, func(id string) error {
		ctx, cancel := context.WithTimeout(s.ctx, c.waits+answerWithin)
		defer cancel()
		i, err := client.Read[client.Instance](call(ctx, api, id))
		if err != nil {
			return withSuggestedID(ctx, api, err, id)
		}
		all = append(all, i)
		return nil
	})
	if len(all) == 0 {
		return first
	}
	return errors.Join(first, c.print(s, all, instanceTable(all)))
}

type maintenanceCmd struct {
	remote
	output

	Mode string        `arg:"" enum:"on,off" help:"on or off."`
	IDs  []string      `arg:"" name:"id" predictor:"instance" help:"Ids of instances."`
	For  time.Duration `default:"1h" help:"Time until the maintenance ends by itself, up to 24h."`
}

// Run puts instances into maintenance, or ends it.
func (c maintenanceCmd) Run(s *session) error {
	on := c.Mode == "on"
	form := client.OverrideForm{Maintenance: &on}
	if on {
		length := c.For.String()
		form.For = &length
	}
	return overrides(s, c.remote, c.output, c.IDs, form)
}

type weightCmd struct {
	remote
	output

	Weight string        `arg:"" help:"A weight from 1 to 100, or off to end the override."`
	IDs    []string      `arg:"" name:"id" predictor:"instance" help:"Ids of instances."`
	For    time.Duration `default:"1h" help:"Time until the weight is as registered again, up to 24h."`
}

// Run overrides the weight of instances, or ends the override.
func (c weightCmd) Run(s *session) error {
	if c.Weight == "off" {
		off := false
		return overrides(s, c.remote, c.output, c.IDs, client.OverrideForm{Maintenance: &off})
	}
	weight, err := strconv.Atoi(c.Weight)
	if err != nil {
		return usageError{fmt.Errorf("the weight is %q: give a number from 1 to 100, or off", c.Weight)}
	}
	length := c.For.String()
	return overrides(s, c.remote, c.output, c.IDs, client.OverrideForm{Weight: &weight, For: &length})
}

func overrides(s *session, r remote, o output, ids []string, form client.OverrideForm) error {
	return changes{r, o, ids, 0}.run(s, func(ctx context.Context, api *client.Client, id string) (*http.Response, error) {
		return api.OverrideWithFormdataBody(ctx, id, form)
	})
}
