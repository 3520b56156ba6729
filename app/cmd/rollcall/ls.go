package main

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"rollcall/app/client"
)

type lsCmd struct {
	remote
	output
	watching

	Service string   `arg:"" optional:"" predictor:"service" help:"Only this service."`
	State   []string `enum:"starting,healthy,unhealthy,failed,draining,flapping,maintenance" help:"Only instances in this state: ${enum}; repeatable."`
	Tag     []string `help:"Only instances with this tag; repeatable."`
	Host    []string `help:"Only instances that serve this vhost; repeatable."`
}

// Run prints every instance, in any state.
func (c lsCmd) Run(s *session) error {
	api, err := c.api()
	if err != nil {
		return err
	}
	return c.repeat(s, func(s *session) error {
		all, err := c.instances(s.ctx, api)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(i client.Instance) bool { return !c.wants(i) })
		slices.SortStableFunc(all, func(a, b client.Instance) int {
			return cmp.Or(severity(a)-severity(b), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Id, b.Id))
		})
		return c.print(s, all, instanceTable(all))
	})
}

func (c lsCmd) instances(ctx context.Context, api *client.Client) ([]client.Instance, error) {
	names, err := c.services(ctx, api)
	if err != nil {
		return nil, err
	}
	all := []client.Instance{}
	for _, name := range names {
		instances, err := api.InState(ctx, name, "any")
		if c.Service == "" && client.IsStatus(err, http.StatusNotFound) { // gone since the list of services
			continue
		}
		if err != nil {
			return nil, withSuggestion(ctx, api, err, name)
		}
		all = append(all, instances...)
	}
	return all, nil
}

// services returns the given service, or the names of all services.
func (c lsCmd) services(ctx context.Context, api *client.Client) ([]string, error) {
	if c.Service != "" {
		return []string{c.Service}, nil
	}
	return serviceNames(ctx, api)
}

// wants reports whether an instance passes the filters. A filter with several values takes each of them.
func (c lsCmd) wants(i client.Instance) bool {
	states := strings.Split(i.Standing(), ",")
	return anyOf(c.State, states) && anyOf(c.Host, i.Hosts) && (len(c.Tag) == 0 || i.Tags != nil && anyOf(c.Tag, *i.Tags))
}

// anyOf reports whether one of the wanted values is among the given ones. An empty list wants each.
func anyOf(want, given []string) bool {
	return len(want) == 0 || slices.ContainsFunc(want, func(w string) bool { return slices.Contains(given, w) })
}

// severity orders instances, the worst first.
func severity(i client.Instance) int {
	order := []string{"unhealthy", "failed", "draining", "starting"}
	if n := slices.Index(order, string(i.State)); n >= 0 {
		return n
	}
	if i.Standing() != string(i.State) { // flapping, or in maintenance
		return len(order)
	}
	return len(order) + 1
}

func instanceTable(all []client.Instance) table {
	t := table{head: []string{"SERVICE", "INSTANCE", "ADDRESS", "STATE", "SINCE", "VHOSTS", "WEIGHT", "CHECK", "TAGS"}, wide: 3}
	for _, i := range all {
		tags := ""
		if i.Tags != nil {
			tags = strings.Join(*i.Tags, " ")
		}
		check := string(i.Check.Kind)
		if i.Check.Target != nil {
			check = *i.Check.Target
		}
		t.add(i.Id, i.Service, i.Id, i.Address, i.Standing(), age(i.Since), strings.Join(i.Hosts, " "), strconv.Itoa(i.Weight), check, tags)
	}
	return t
}
