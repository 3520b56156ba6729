package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	api "rollcall/app/client"
)

// fresh is the time for which a finder uses an answer without another call.
const fresh = time.Second

// errNoInstance means that the service has no healthy instance.
var errNoInstance = errors.New("no healthy instance")

// finder finds the addresses of a service's healthy instances. It calls Rollcall at most once a
// second. While Rollcall does not answer, it returns the last addresses: the instances do not
// depend on Rollcall.
type finder struct {
	service  string
	rollcall *api.Client
	err      error // of the URL of Rollcall
	log      *slog.Logger

	asking sync.Mutex // held during a call
	mu     sync.Mutex // guards the fields below
	known  []string   // nil until the first answer
	at     time.Time  // time of the last call, successful or not
}

func newFinder(c config, service string, log *slog.Logger) *finder {
	f := &finder{service: service, log: log}
	f.rollcall, f.err = api.New(c.rollcall, c.token, api.Options{Once: true})
	return f
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
	if f.err != nil {
		return nil, f.err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	list, err := api.Read[api.ServiceDetail](f.rollcall.Service(ctx, f.service, nil))
	if err != nil && !api.IsStatus(err, http.StatusNotFound) {
		return nil, err
	}
	addresses := []string{}
	for _, i := range list.Instances {
		addresses = append(addresses, i.Address)
	}
	return addresses, nil
}
