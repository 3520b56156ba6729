package handlers

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

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

// afterWrites has a GET or HEAD of the registry wait until the replica has the writes of this process, so that callers
// read their own writes. A write itself does not wait for the replica.
func afterWrites(needs access, rep *replica.Replica) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		if needs == noToken {
			return next
		}
		return func(c echo.Context) error {
			if m := c.Request().Method; m == http.MethodGet || m == http.MethodHead {
				rep.WaitWrites(c.Request().Context())
			}
			return next(c)
		}
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
