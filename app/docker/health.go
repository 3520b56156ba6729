package docker

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sync/errgroup"

	api "rollcall/app/client"
)

const (
	reportEvery = 2 * time.Second // heartbeats of health=docker
	reports     = 8               // at a time
)

// pulse sends the results of Docker's own health checks as heartbeats.
type pulse struct {
	api     *api.Client
	log     *slog.Logger
	unknown func(id string) // called for a container without its instance in Rollcall

	wake  chan struct{}
	mu    sync.Mutex
	beats map[string]beat // by container
}

// beat is the health of the instances of a container.
type beat struct {
	instances []string
	status    api.ReportStatus
}

func newPulse(calls *api.Client, log *slog.Logger) *pulse {
	return &pulse{api: calls, log: log, wake: make(chan struct{}, 1), beats: map[string]beat{}}
}

// set replaces the health of the instances of a container. Without instances, or before the first check, none is sent.
func (p *pulse) set(id string, instances []string, health container.HealthStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	status := api.Pass
	switch {
	case len(instances) == 0 || health != container.Healthy && health != container.Unhealthy:
		delete(p.beats, id)
		return
	case health == container.Unhealthy:
		status = api.Fail
	}
	p.beats[id] = beat{instances, status}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run sends heartbeats at each change and every 2 s, until the context ends.
func (p *pulse) run(ctx context.Context) {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		p.report(ctx)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-p.wake:
		}
	}
}

func (p *pulse) report(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(reports)
	for id, b := range p.now() {
		for _, instance := range b.instances {
			group.Go(func() error {
				p.send(ctx, id, instance, b.status)
				return nil
			})
		}
	}
	_ = group.Wait()
}

func (p *pulse) now() map[string]beat {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.beats)
}

func (p *pulse) send(ctx context.Context, id, instance string, status api.ReportStatus) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	resp, err := api.Accepted(p.api.Heartbeat(ctx, instance, api.Report{Status: &status}))
	switch {
	case err == nil:
		_ = resp.Body.Close()
	case api.IsStatus(err, http.StatusNotFound):
		p.set(id, nil, "")
		p.unknown(id)
	default:
		p.log.WarnContext(ctx, "health not reported", "instance", instance, "err", err)
	}
}
