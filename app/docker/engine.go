package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"
)

const (
	engineWithin = 30 * time.Second // an answer of the engine
	inspections  = 8                // at a time
)

// Seen is one container with its registrations, or the reason for none.
type Seen struct {
	ID, Name string
	Entries  []Entry
	Err      error

	health     container.HealthStatus
	stopSignal string        // empty: SIGTERM
	grace      time.Duration // from the stop signal to SIGKILL
}

// Look returns the running labelled containers of the engine.
func (a *Agent) Look(ctx context.Context) ([]Seen, error) {
	ctx, cancel := context.WithTimeout(ctx, engineWithin)
	defer cancel()
	list, err := a.Engine.ContainerList(ctx, client.ContainerListOptions{Filters: make(client.Filters).Add("status", "running")})
	if err != nil {
		return nil, explain("list the containers", err)
	}
	var ids []string
	for _, c := range list.Items {
		if a.labelled(c.Labels) {
			ids = append(ids, c.ID)
		}
	}
	return a.inspectAll(ctx, ids)
}

// inspectAll leaves out containers that do not run, or are paused.
func (a *Agent) inspectAll(ctx context.Context, ids []string) ([]Seen, error) {
	ctx, cancel := context.WithTimeout(ctx, engineWithin)
	defer cancel()
	all := make([]Seen, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inspections)
	for n, id := range ids {
		group.Go(func() (err error) {
			all[n], err = a.inspect(ctx, id)
			return err
		})
	}
	err := group.Wait()
	return slices.DeleteFunc(all, func(s Seen) bool { return s.ID == "" }), err
}

// inspect returns the zero Seen for a container that is gone, does not run or is paused. An error of the engine about this
// container alone is in Seen.
func (a *Agent) inspect(ctx context.Context, id string) (Seen, error) {
	result, err := a.Engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	switch {
	case errdefs.IsNotFound(err):
		return Seen{}, nil
	case err != nil && (ctx.Err() != nil || ofEngine(err)):
		return Seen{}, explain("inspect container "+id, err)
	case err != nil:
		return Seen{ID: id, Name: id, Err: explain("inspect container "+id, err)}, nil
	}
	if c := result.Container; runs(c) && a.labelled(c.Config.Labels) {
		return a.see(ctx, c), nil
	}
	return Seen{}, nil
}

func (a *Agent) see(ctx context.Context, c container.InspectResponse) Seen {
	seen := Seen{ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), stopSignal: c.Config.StopSignal, grace: grace(c.Config.StopTimeout)}
	if c.State.Health != nil {
		seen.health = c.State.Health.Status
	}
	owner, err := a.networkOwner(ctx, c)
	if err != nil {
		seen.Err = err
	} else {
		seen.Entries, seen.Err = a.Entries(c, owner)
	}
	return seen
}

// ofEngine reports whether an error would be the same for each container.
func ofEngine(err error) bool {
	return errdefs.IsPermissionDenied(err) || client.IsErrConnectionFailed(err)
}

func runs(c container.InspectResponse) bool {
	return c.State.Running && !c.State.Paused && !c.State.Restarting
}

// grace returns the stop timeout of a container in seconds, or the engine's default.
func grace(seconds *int) time.Duration {
	if seconds == nil || *seconds < 0 {
		return 10 * time.Second
	}
	return time.Duration(*seconds) * time.Second
}

// networkOwner returns the container whose network c uses: c itself, unless its network mode is container:ID.
func (a *Agent) networkOwner(ctx context.Context, c container.InspectResponse) (container.InspectResponse, error) {
	other := c.HostConfig.NetworkMode.ConnectedContainer()
	if other == "" {
		return c, nil
	}
	found, err := a.Engine.ContainerInspect(ctx, other, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) {
		return c, fmt.Errorf("the network belongs to container %s, which does not exist; recreate this container", other)
	}
	if err != nil {
		return c, explain("inspect container "+other+", the owner of the network", err)
	}
	return found.Container, nil
}

// explain adds the remedy to an error of the engine.
func explain(call string, err error) error {
	switch {
	case errdefs.IsPermissionDenied(err):
		err = errors.Join(err, errors.New("the socket proxy or the engine refuses this call; allow ping, version, events and containers"))
	case client.IsErrConnectionFailed(err):
		err = errors.Join(err, errors.New("set DOCKER_HOST, or mount the folder of the engine's socket"))
	}
	return &engineError{call, err}
}

type engineError struct {
	call string
	err  error
}

func (e *engineError) Error() string {
	return e.call + ": " + strings.ReplaceAll(e.err.Error(), "\n", "; ")
}
func (e *engineError) Unwrap() error { return e.err }
