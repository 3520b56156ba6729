package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rollcall/app"
)

// DrainInTurn drains an instance like Drain, but only while at least keep other instances of its
// service are routable, so that instances that restart for the same reason take turns. This also
// holds if many of them call at once. An instance that is not routable drains at once. DrainInTurn
// returns a FieldError (ErrConflict) about keep while too few others are routable.
func (r *Registry) DrainInTurn(ctx context.Context, id, boot string, period time.Duration, keep int) (is app.Instance, rev app.Revision, err error) {
	if keep < 1 || keep > app.MaxKeep {
		return app.Instance{}, "", app.Invalid("keep", fmt.Sprintf("is %d", keep), fmt.Sprintf("give a number from 1 to %d", app.MaxKeep))
	}
	err = r.retry(ctx, func() error {
		is, rev, err = r.drainInTurn(ctx, id, boot, period, keep)
		return err
	})
	if err != nil {
		return app.Instance{}, "", fmt.Errorf("drain %s: %w", id, err)
	}
	return is, rev, nil
}

func (r *Registry) drainInTurn(ctx context.Context, id, boot string, period time.Duration, keep int) (is app.Instance, rev app.Revision, err error) {
	was, err := r.own(ctx, id)
	if err != nil {
		return is, "", err
	}
	if err := startedBy(was, boot); err != nil {
		return is, "", err
	}
	now := r.now()
	if is = was.Drain(period, now); is.State == was.State {
		return is, "", nil
	}
	var others []app.Instance
	if was.Routable() {
		if others, err = r.routableOthers(ctx, was, keep); err != nil {
			return is, "", err
		}
	}
	event := app.NewEvent(app.EventDraining, was, is, now, "told to drain in its turn")
	rev, err = r.commit(ctx, app.Change{Steps: []app.Step{{Was: was, Is: is, Event: event}}, Seen: others})
	is.Rev++
	return is, rev, err
}

// routableOthers returns n other routable instances of the service of i, as stored now, or a
// FieldError about keep if there are fewer.
func (r *Registry) routableOthers(ctx context.Context, i app.Instance, n int) ([]app.Instance, error) {
	if _, _, fresh := r.lookup(ctx, i.ID); !fresh {
		return nil, fmt.Errorf("the instances of %s: %w", i.Service, app.ErrUnavailable)
	}
	var others []app.Instance
	for _, known := range r.replica.Routable(i.Service) {
		if known.ID == i.ID {
			continue
		}
		other, err := r.store.Get(ctx, known.ID)
		if err != nil && !errors.Is(err, app.ErrNotFound) {
			return nil, err
		}
		if !other.Routable() || other.Service != i.Service {
			continue
		}
		if others = append(others, other); len(others) == n {
			return others, nil
		}
	}
	return nil, fewOthers(i.Service, len(others), n)
}

func fewOthers(service string, healthy, keep int) error {
	return &app.FieldError{
		Field: "keep", Held: true, Problem: fmt.Sprintf("is %d, and %d other instances of %s are healthy", keep, healthy, service),
		Want: "ask again until another instance has restarted, or leave keep out to drain now",
	}
}
