//go:build unix

package entrypoint

import (
	"context"
	"net/http"
	"time"

	"rollcall/app"
)

// longestTurn bounds how long a command waits for its turn to restart.
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

// awaitTurn drains the command in its turn. It returns when the command is drained, when there is nobody to
// take turns with, and when Rollcall does not answer.
func (h *hook) awaitTurn(ctx context.Context, id string) {
	keep := h.keep(ctx)
	if keep < 1 {
		return
	}
	waiting, cancel := context.WithTimeout(ctx, spread(longestTurn))
	defer cancel()
	for said := false; ; said = true {
		select {
		case h.asserting <- struct{}{}: // the agent must not register the command again meanwhile
		case <-waiting.Done():
			return
		}
		a := h.api.drainInTurn(waiting, id, h.form.Get("boot"), h.hold, keep)
		if a.status != http.StatusConflict || a.Field == "boot" {
			return
		}
		<-h.asserting
		if !said {
			h.say("waiting for other instances to restart first: %s", a.reason())
		}
		select {
		case <-time.After(spread(time.Second)):
		case <-waiting.Done():
			return
		}
	}
}

// keep is how many other instances of the command's service stay healthy while it restarts; 0: there are none.
// Those that are draining or starting count as well: they may be restarting already.
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
