// Package agents takes the reports of the programs that register the containers of an engine.
package agents

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/handlers/input"
)

// Store holds the last report of each agent.
type Store interface {
	// Agent returns the last report of an agent, or the zero value. It returns a FieldError if there is no room for another.
	Agent(ctx context.Context, node string) (app.Agent, error)
	// PutAgent replaces the report of an agent, and appends events.
	PutAgent(ctx context.Context, a app.Agent, events []app.Event) error
}

// Reports handles the reports of agents.
type Reports struct {
	Store Store
	Now   func() time.Time
}

// Put takes the report of an agent. Each newly refused container has an event.
func (r Reports) Put(c echo.Context) error {
	node, ctx := c.Param("node"), c.Request().Context()
	caller, _ := app.CallerOf(ctx).(auth.Caller)
	if !caller.MayRegisterSome() {
		return &app.ForbiddenError{What: "report the containers of an engine", Want: "give a token with a scope such as register:web"}
	}
	var given struct {
		Age        time.Duration     `field:"age" validate:"min=0s"`
		Containers *int              `field:"containers" validate:"omitempty,min=0"`
		Refused    map[string]string `field:"refused" validate:"max=50,dive,keys,text=256,endkeys,text=600"`
	}
	if err := input.QueryAndBody(c.Request(), &given); err != nil {
		return err
	}
	if err := app.ValidID("node", node); err != nil {
		return err
	}
	former, err := r.Store.Agent(ctx, node)
	if err != nil {
		return err
	}
	a := app.Agent{Node: node, SyncedAt: r.Now().Add(-given.Age), Refused: given.Refused}
	if given.Containers != nil {
		a.Containers = *given.Containers
	}
	if err := r.Store.PutAgent(ctx, a, a.Refusals(former, r.Now(), caller.Actor())); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
