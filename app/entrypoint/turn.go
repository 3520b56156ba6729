//go:build unix

package entrypoint

import (
	"context"
	"net/http"
	"time"

	"rollcall/app"
)

// longestTurn limits the wait of a command for its turn to restart.
const longestTurn = 2 * time.Minute

// takeTurns returns a channel that is closed when the command may be restarted because a service that it
// uses has moved, and a function that ends the wait. All instances of the command's service learn
// of the move in the same second; at most a quarter of them, or one, restarts at a time.
func (h *hook) takeTurns() (turn <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	over, id := make(chan struct{}), h.id
	go func() {
		defer close(over)
		h.awaitTurn(ctx, id)
	}()
	return over, func() {
		cancel()
		<-over
	}
}

// awaitTurn drains the command in its turn. It returns when the command is drained, when the service has no other
// instance, and when Rollcall does not answer.
func (h *hook) awaitTurn(ctx context.Context, id string) {
	keep := h.keep(ctx)
	if keep < 1 {
		return
	}
	waiting, cancel := context.WithTimeout(ctx, jitter(longestTurn))
	defer cancel()
	for said := false; ; said = true {
		select {
		case h.registering <- struct{}{}: // the agent must not register the command during the drain
		case <-waiting.Done():
			return
		}
		a := h.api.drainInTurn(waiting, id, h.form.Get("boot"), h.drainPeriod, keep)
		if a.status != http.StatusConflict || a.Field == "boot" {
			return
		}
		<-h.registering
		if !said {
			h.log("waiting for other instances to restart first: %s", a.reason())
		}
		if app.Sleep(waiting, jitter(time.Second)) != nil {
			return
		}
	}
}

// keep returns how many other instances of the service stay healthy while the command restarts. It is 0 if there are none.
// Starting and draining instances count: they may be restarting.
func (h *hook) keep(ctx context.Context) int {
	instances, err := h.links.api.InState(ctx, h.form.Get("service"), "any")
	if err != nil {
		return 0
	}
	serving := 0
	for _, i := range instances {
		if s := app.State(i.State); s == app.Healthy || s == app.Draining || s == app.Starting {
			serving++
		}
	}
	return min(serving-max(1, serving/4), app.MaxKeep)
}
