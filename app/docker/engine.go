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
		return nil, a.explain(ctx, partContainers, "list the containers", err)
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
	case err != nil && ofEngine(ctx, err):
		return Seen{}, a.explain(ctx, partContainers, "inspect container "+id, err)
	case err != nil:
		return Seen{ID: id, Name: id, Err: a.explain(ctx, partContainers, "inspect container "+id, err)}, nil
	}
	if c := result.Container; runs(c) && a.labelled(c.Config.Labels) {
		return a.see(ctx, c)
	}
	return Seen{}, nil
}

func (a *Agent) see(ctx context.Context, c container.InspectResponse) (Seen, error) {
	seen := Seen{ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), stopSignal: c.Config.StopSignal, grace: grace(c.Config.StopTimeout)}
	if c.State.Health != nil {
		seen.health = c.State.Health.Status
	}
	owner, err := a.networkOwner(ctx, c)
	switch {
	case err == nil:
		seen.Entries, seen.Err = a.Entries(c, owner)
	case ofEngine(ctx, err):
		return Seen{}, err
	default:
		seen.Err = err
	}
	return seen, nil
}

// ofEngine reports whether an error would be the same for each container.
func ofEngine(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errdefs.IsPermissionDenied(err) || client.IsErrConnectionFailed(err)
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
		return c, a.explain(ctx, partContainers, "inspect container "+other+", the owner of the network", err)
	}
	return found.Container, nil
}

// Parts of the engine's API, as socket proxies name them.
const (
	partPing       = "ping"
	partEvents     = "events"
	partContainers = "containers"
)

// explain adds the remedy to an error of a part of the engine's API.
func (a *Agent) explain(ctx context.Context, part, call string, err error) error {
	switch {
	case client.IsErrConnectionFailed(err):
		err = errors.Join(err, errors.New("set DOCKER_HOST, or mount the folder of the engine's socket"))
	case errdefs.IsPermissionDenied(err) || errdefs.IsInvalidArgument(err):
		err = errors.Join(err, a.diagnose(ctx, part, err))
	}
	return &engineError{call, err}
}

// diagnose returns the remedy for a call that the engine or a socket proxy has refused, or nil if it is unknown. Without a
// ping, the client does not know the engine's version of the API.
func (a *Agent) diagnose(ctx context.Context, part string, err error) error {
	answers := map[string]error{part: err}
	_, answers[partPing] = a.Engine.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if part != partContainers {
		_, answers[partContainers] = a.Engine.ContainerList(ctx, client.ContainerListOptions{Limit: 1})
	}
	var refused []string
	for _, part := range []string{partPing, partEvents, partContainers} {
		if errdefs.IsPermissionDenied(answers[part]) {
			refused = append(refused, part)
		}
	}
	switch {
	case len(refused) > 0:
		return fmt.Errorf("the socket proxy or the engine refuses this call; permit %s", strings.Join(refused, ", "))
	case errdefs.IsInvalidArgument(answers[partPing]):
		return fmt.Errorf("%w; update the engine", answers[partPing])
	}
	return nil
}

type engineError struct {
	call string
	err  error
}

func (e *engineError) Error() string {
	return e.call + ": " + strings.ReplaceAll(e.err.Error(), "\n", "; ")
}
func (e *engineError) Unwrap() error { return e.err }
