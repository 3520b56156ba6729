package handlers

import (
	"cmp"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/handlers/input"
	"rollcall/handlers/links"
	"rollcall/handlers/view"
)

// pick answers with the address of one routable instance: a random one, the next one (?by=rr), or the
// same one for the same key (?by=hash&key=) while that instance is routable.
func (h *services) pick(c echo.Context) error {
	var query struct {
		By  string `field:"by" validate:"omitempty,oneof=rr hash"`
		Key string `field:"key"`
	}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	if query.By == "hash" && query.Key == "" {
		return &app.FieldError{Field: "key", Problem: "is missing", Want: "give what to choose by, such as a user's id"}
	}
	name := c.Param("name")
	healthy, err := h.routable(name)
	if err != nil {
		return err
	}
	i := h.choose(healthy, name, query.By, query.Key)
	if strings.Contains(c.Request().Header.Get(echo.HeaderAccept), echo.MIMEApplicationJSON) {
		return c.JSON(http.StatusOK, view.InstanceOf(i))
	}
	return c.String(http.StatusOK, i.Address+"\n")
}

// choose picks one of a service's healthy instances: at random by default, in turn (rr), or by a key (hash).
func (h *services) choose(healthy []app.Instance, service, by, key string) app.Instance {
	switch by {
	case "rr":
		return h.byTurn(healthy, service)
	case "hash":
		return byKey(healthy, key)
	}
	return random(healthy)
}

// byTurn picks the instance that follows the one of the previous call.
func (h *services) byTurn(healthy []app.Instance, service string) app.Instance {
	n, _ := h.turns.LoadOrStore(service, new(atomic.Uint64))
	turn := n.(*atomic.Uint64).Add(1) //nolint:forcetypeassert // the map has values of this type only
	return healthy[(turn-1)%uint64(len(healthy))]
}

// random picks an instance at random, in proportion to the weights.
func random(from []app.Instance) app.Instance {
	total := 0
	for _, i := range from {
		total += i.Slots()
	}
	n := rand.IntN(total) //nolint:gosec // spreading load needs no secrecy
	for _, i := range from {
		if n -= i.Slots(); n < 0 {
			return i
		}
	}
	return from[0]
}

// byKey picks an instance by weighted rendezvous hashing: when an instance comes or goes, only
// the keys that it wins or had move.
func byKey(from []app.Instance, key string) app.Instance {
	score := func(i app.Instance) float64 {
		x := ownership.Mix(ownership.Hash(i.ID + "\x00" + key))
		return -float64(i.Slots()) / math.Log((float64(x>>11)+0.5)/(1<<53))
	}
	return slices.MaxFunc(from, func(a, b app.Instance) int {
		return cmp.Or(cmp.Compare(score(a), score(b)), strings.Compare(a.ID, b.ID))
	})
}

// prometheus answers Prometheus's http_sd with the healthy instances, or those
// in another ?state=, one target group each.
func (h *services) prometheus(c echo.Context) error {
	query := struct {
		Service string `field:"service"`
		State   string `field:"state" validate:"oneof=starting healthy unhealthy failed draining any"`
	}{State: string(app.Healthy)}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	if _, err := h.age(); err != nil {
		return err
	}
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	groups := []group{}
	for _, i := range h.replica.Instances(query.Service) {
		if !selected(i, query.State) {
			continue
		}
		labels := map[string]string{
			"__meta_rollcall_service": i.Service, "__meta_rollcall_instance": i.ID, "__meta_rollcall_state": string(i.State),
			"__meta_rollcall_vhosts": joined(i.Hosts), "__meta_rollcall_tags": joined(i.Tags),
		}
		for _, name := range slices.Sorted(maps.Keys(i.Meta)) { // two names may give one label: the last in order wins
			labels["__meta_rollcall_meta_"+strings.Map(links.LabelRune, name)] = i.Meta[name]
		}
		groups = append(groups, group{Targets: []string{i.Address}, Labels: labels})
	}
	return c.JSON(http.StatusOK, groups)
}

// joined puts a comma before and after every item, so that a relabelling rule can match
// one item: .*,shop\.example\.com,.*
func joined(items []string) string {
	if len(items) == 0 {
		return ""
	}
	return "," + strings.Join(items, ",") + ","
}
