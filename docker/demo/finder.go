package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// fresh is how long a finder believes what it has heard.
const fresh = time.Second

// errNobody means that there is no healthy instance.
var errNobody = errors.New("no healthy instance")

// finder knows the addresses of a service's healthy instances. It asks Rollcall once a
// second at most, and while Rollcall does not answer it goes on with what it knew: that
// the directory is away says nothing about those listed in it.
type finder struct {
	url   string
	token string
	http  http.Client
	log   *slog.Logger

	asking sync.Mutex // held by the one that asks
	mu     sync.Mutex // guards what follows
	known  []string   // nil until the first answer
	at     time.Time  // when known was heard, or asked for in vain
}

func newFinder(c config, service string, log *slog.Logger) *finder {
	return &finder{
		url:   strings.TrimSuffix(c.rollcall, "/") + "/v1/services/" + url.PathEscape(service),
		token: c.token,
		http:  http.Client{Timeout: time.Second},
		log:   log,
	}
}

// find returns the addresses, sorted by the instances' ids, or errNobody.
func (f *finder) find(ctx context.Context) ([]string, error) {
	known, stale := f.recall()
	switch {
	case known == nil:
		f.asking.Lock()
	case !stale || !f.asking.TryLock(): // somebody asks already, and nobody else has to wait for it
		return known, nobody(known)
	}
	defer f.asking.Unlock()
	if known, stale = f.recall(); known != nil && !stale {
		return known, nobody(known)
	}
	heard, err := f.ask(ctx)
	if err != nil {
		if known == nil {
			return nil, err
		}
		f.log.WarnContext(ctx, "Rollcall does not answer: going on with what it said last", "err", err)
		heard = known
	}
	f.mu.Lock()
	f.known, f.at = heard, time.Now()
	f.mu.Unlock()
	return heard, nobody(heard)
}

func (f *finder) recall() (known []string, stale bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known, time.Since(f.at) >= fresh
}

func nobody(known []string) error {
	if len(known) == 0 {
		return errNobody
	}
	return nil
}

// ask asks Rollcall. A service it does not know has no instances.
func (f *finder) ask(ctx context.Context) ([]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return nil, err
	}
	if f.token != "" {
		req.Header.Set("Authorization", "Bearer "+f.token)
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return []string{}, nil
	default:
		return nil, fmt.Errorf("GET %s: %s", f.url, resp.Status)
	}
	var list struct {
		Instances []struct{ Address string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return nil, err
	}
	addresses := []string{}
	for _, i := range list.Instances {
		addresses = append(addresses, i.Address)
	}
	return addresses, nil
}
