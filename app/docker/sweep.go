package docker

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	api "rollcall/app/client"
)

// sweep reads the instances of this node, and removes the ones whose container does not run. The first sweep reads all
// services, the others the services of the agent's registrations.
func (a *Agent) sweep(ctx context.Context) {
	if a.sweeping {
		return
	}
	a.sweeping = true
	var services []string
	if a.swept {
		services = slices.AppendSeq([]string{}, maps.Keys(a.services))
	}
	a.background.Go(func() {
		instances, err := a.ofNode(ctx, services)
		a.give(ctx, func() { a.removeFormer(ctx, instances, err) })
	})
}

// ofNode returns the instances of some services that carry the name of this node, by container; nil: of all services.
func (a *Agent) ofNode(ctx context.Context, services []string) (found map[string][]Entry, err error) {
	ctx, cancel := context.WithTimeout(ctx, engineWithin)
	defer cancel()
	if services == nil {
		if services, err = a.allServices(ctx); err != nil {
			return nil, err
		}
	}
	found = map[string][]Entry{}
	for _, service := range services {
		instances, err := a.API.InState(ctx, service, "any")
		if err != nil && !api.IsStatus(err, http.StatusNotFound) {
			return nil, err
		}
		for _, i := range instances {
			if id := a.containerOf(i); id != "" {
				found[id] = append(found[id], Entry{"id": i.Id, "boot": *i.Boot})
			}
		}
	}
	return found, nil
}

// containerOf returns the container of an instance, or "" if it has another node, or none.
func (a *Agent) containerOf(i api.Instance) string {
	if i.Meta == nil || i.Boot == nil || (*i.Meta)[metaNode] != a.Node {
		return ""
	}
	return (*i.Meta)[metaContainer]
}

func (a *Agent) allServices(ctx context.Context) (names []string, err error) {
	list, err := api.Read[api.ServiceList](a.API.Services(ctx))
	for _, service := range list.Services {
		names = append(names, service.Name)
	}
	return names, err
}

// removeFormer removes the instances without a container. A container that a later look will find is left to it.
func (a *Agent) removeFormer(ctx context.Context, instances map[string][]Entry, err error) {
	if ctx.Err() != nil { // another event stream has begun with a look of its own
		return
	}
	a.sweeping = false
	if err != nil {
		a.Log.WarnContext(ctx, "former instances not removed; next try within a minute", "err", err)
		return
	}
	a.swept = true
	a.refusals.prune(a.containers)
	for id, entries := range instances {
		if a.containers[id] == nil && !a.dirty[id] && !a.looking.covers(id) {
			a.out.put(id, remove, entries, 0)
		}
	}
	a.synced = time.Now()
	a.report(ctx)
}
