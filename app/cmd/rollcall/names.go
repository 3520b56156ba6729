package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"rollcall/app/boot"
	"rollcall/app/client"
)

// serviceNames returns the names of all services.
func serviceNames(ctx context.Context, api *client.Client) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	list, err := client.Read[client.ServiceList](api.Services(ctx))
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, service := range list.Services {
		names = append(names, service.Name)
	}
	return names, nil
}

// instanceIDs returns the ids of all instances.
func instanceIDs(ctx context.Context, api *client.Client) (ids []string, err error) {
	names, err := serviceNames(ctx, api)
	for _, name := range names {
		instances, err := api.InState(ctx, name, "any")
		if err != nil {
			continue // gone since the list of services
		}
		for _, i := range instances {
			ids = append(ids, i.Id)
		}
	}
	return ids, err
}

// withSuggestion adds a similar name to a 404 about a service.
func withSuggestion(ctx context.Context, api *client.Client, err error, service string) error {
	if !client.IsStatus(err, http.StatusNotFound) {
		return err
	}
	names, _ := serviceNames(ctx, api)
	return suggesting(err, service, names)
}

// withSuggestedID adds a similar id to a 404 about an instance.
func withSuggestedID(ctx context.Context, api *client.Client, err error, id string) error {
	if !client.IsStatus(err, http.StatusNotFound) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	ids, _ := instanceIDs(ctx, api)
	return suggesting(err, id, ids)
}

func suggesting(err error, name string, names []string) error {
	if near := nearest(name, names); near != "" {
		return fmt.Errorf("%w; did you mean %s?", err, near)
	}
	return err
}

// nearest returns the name with the fewest edits from a misspelt one, or "" if each has more than two.
func nearest(name string, names []string) (near string) {
	least := 3
	for _, candidate := range names {
		if n := boot.Edits(name, candidate); n < least && n < len(name) {
			near, least = candidate, n
		}
	}
	return near
}
