package handlers

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"rollcall/app"
	"rollcall/app/replica"
	"rollcall/handlers/input"
)

// reads answers from the replica.
type reads struct {
	replica *replica.Replica
	log     *slog.Logger
}

// age returns the age of the replica. It returns app.ErrUnavailable if the replica is too old to answer from.
func (r reads) age() (time.Duration, error) { return r.replica.Age(time.Now()) }

// maxWriteWait bounds the wait for a write to reach the replica. The write holds in any case.
const maxWriteWait = time.Second

// awaitWrite waits until the replica has a write of this process, so that the caller's next read returns it.
func (r reads) awaitWrite(ctx context.Context, rev app.Revision) {
	if rev == "" {
		return
	}
	waiting, cancel := context.WithTimeout(ctx, maxWriteWait)
	defer cancel()
	if err := r.replica.WaitRevision(waiting, rev); err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "a write is not in the replica yet", "revision", rev)
	}
}

// service returns a service that has instances.
func (r reads) service(name string) (*replica.Service, error) {
	if _, err := r.age(); err != nil {
		return nil, err
	}
	service := r.replica.Service(name)
	if service == nil {
		return nil, fmt.Errorf("service %s: %w", input.Quote(name), app.ErrNotFound)
	}
	return service, nil
}

// routable returns the routable instances of a service, at least one. The slice is read-only.
func (r reads) routable(name string) ([]app.Instance, error) {
	service, err := r.service(name)
	if err != nil {
		return nil, err
	}
	if len(service.Routable) == 0 {
		return nil, fmt.Errorf("service %s: %w", input.Quote(name), errNoneHealthy)
	}
	return service.Routable, nil
}

// whileServing returns a context that also ends with serving, the context of the process. serving may be nil.
func whileServing(ctx, serving context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if serving == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(serving, cancel)
	return ctx, func() { stop(); cancel() }
}
