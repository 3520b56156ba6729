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

// fresh is the time for which a finder uses an answer without another call.
const fresh = time.Second

// errNoInstance means that the service has no healthy instance.
var errNoInstance = errors.New("no healthy instance")

// finder finds the addresses of a service's healthy instances. It calls Rollcall at most once a
// second. While Rollcall does not answer, it returns the last addresses: the instances do not
// depend on Rollcall.
type finder struct {
	url   string
	token string
	http  http.Client
	log   *slog.Logger

	asking sync.Mutex // held during a call
	mu     sync.Mutex // guards the fields below
	known  []string   // nil until the first answer
	at     time.Time  // time of the last call, successful or not
}

func newFinder(c config, service string, log *slog.Logger) *finder {
	return &finder{
		url:   strings.TrimSuffix(c.rollcall, "/") + "/v1/services/" + url.PathEscape(service),
		token: c.token,
		http:  http.Client{Timeout: time.Second},
		log:   log,
	}
}

// find returns the addresses, sorted by the ids of the instances, or errNoInstance.
func (f *finder) find(ctx context.Context) ([]string, error) {
	known, stale := f.recall()
	switch {
	case known == nil:
		f.asking.Lock()
	case !stale || !f.asking.TryLock(): // another request already asks
		return known, noInstance(known)
	}
	defer f.asking.Unlock()
	if known, stale = f.recall(); known != nil && !stale {
		return known, noInstance(known)
	}
	found, err := f.ask(ctx)
	if err != nil {
		if known == nil {
			return nil, err
		}
		f.log.WarnContext(ctx, "Rollcall does not answer: using its last answer", "err", err)
		found = known
	}
	f.mu.Lock()
	f.known, f.at = found, time.Now()
	f.mu.Unlock()
	return found, noInstance(found)
}

func (f *finder) recall() (known []string, stale bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known, time.Since(f.at) >= fresh
}

func noInstance(known []string) error {
	if len(known) == 0 {
		return errNoInstance
	}
	return nil
}

// ask calls Rollcall. An unknown service has no instances.
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
