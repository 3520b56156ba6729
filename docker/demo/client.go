package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// client answers GET /demo: it sends a random number to a service and returns the list.
type client struct {
	http.ServeMux
	name     string
	services *finder
	http     http.Client
	log      *slog.Logger
}

func newClient(c config, log *slog.Logger) *client {
	d := &client{
		name:     c.name,
		services: newFinder(c, "service", log),
		log:      log,
		http: http.Client{
			Timeout: 2 * time.Second, // for one service; the next one follows a hanging one
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: 500 * time.Millisecond}).DialContext,
				MaxIdleConnsPerHost: 32,
				IdleConnTimeout:     10 * time.Second,
			},
		},
	}
	d.HandleFunc("GET /demo", d.demo)
	return d
}

// demo returns the answer of a service. ?last=n limits it to the end of the list.
func (c *client) demo(w http.ResponseWriter, r *http.Request) {
	form := url.Values{"number": {strconv.Itoa(rand.IntN(1_000_000_000))}, "client": {c.name}, "last": {r.URL.Query().Get("last")}} //nolint:gosec // not a secret
	list, err := c.enter(r.Context(), form.Encode())
	if err != nil {
		c.log.WarnContext(r.Context(), "no service could take the number", "err", err)
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(list)
}

// enter posts the number to one service after the other until one answers. It begins with a
// random one and tries each twice, because a busy service may be free by then. A service may
// have added the number although its answer was lost; the list shows an entry that was posted
// twice only once.
func (c *client) enter(ctx context.Context, form string) ([]byte, error) {
	var failed []error
	for range 2 {
		services, err := c.services.find(ctx)
		if err != nil {
			return nil, fmt.Errorf("service: %w", err)
		}
		for _, n := range rand.Perm(len(services)) { //nolint:gosec // not a secret
			list, err := c.post(ctx, "http://"+services[n]+"/entry", form)
			if err == nil {
				return list, nil
			}
			failed = append(failed, err)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	return nil, errors.Join(failed...)
}

func (c *client) post(ctx context.Context, target, form string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("POST %s: %w", target, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("POST %s: %s: %s", target, resp.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}
