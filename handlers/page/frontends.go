package page

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/diagnose"
	"rollcall/handlers/input"
)

// vhostRow is a vhost in a list.
type vhostRow struct {
	Host, Service string
	Routed, Slots int
	Condition     string
}

// vhostsOf counts the backends of each vhost. Vhosts without a routed backend come first, then the vhosts with the most backends
// that are not routed.
// A vhost whose service starts, without an instance that is down, is no fault.
func vhostsOf(frontends []app.Frontend, services []serviceRow) []vhostRow {
	starts := map[string]bool{}
	for _, s := range services {
		starts[s.Name] = s.Tally.Down() == 0 && s.Tally[string(app.Starting)] > 0
	}
	rows := make([]vhostRow, len(frontends))
	for n, f := range frontends {
		v := vhostRow{Host: f.Host, Service: f.Service, Slots: len(f.Slots) + len(f.Unlisted)}
		for _, s := range f.Slots {
			if s.Routed() {
				v.Routed++
			}
		}
		switch {
		case v.Routed == 0 && starts[v.Service]:
			v.Condition = "starts"
		case v.Routed == 0:
			v.Condition = "none"
		case v.Routed == v.Slots:
			v.Condition = "all"
		default:
			v.Condition = "some"
		}
		rows[n] = v
	}
	slices.SortFunc(rows, func(a, b vhostRow) int {
		return cmp.Or(cmp.Compare(min(a.Routed, 1), min(b.Routed, 1)), cmp.Compare(b.Slots-b.Routed, a.Slots-a.Routed), cmp.Compare(a.Host, b.Host))
	})
	return rows
}

// frontends lists every vhost as the proxy reads it.
func (p *Page) frontends(c echo.Context, all []app.Instance) (view, error) {
	var query struct {
		Q    string `field:"q" validate:"text=200"`
		Page int    `field:"page"`
	}
	query.Page = 1
	if err := input.Query(c.Request(), &query); err != nil {
		return view{}, err
	}
	frontends, err := p.readVhosts(c)
	if err != nil && !unread(err) {
		return view{}, err
	}
	f := listQuery{Path: "/frontends", Q: strings.TrimSpace(query.Q), Page: query.Page}
	q := strings.ToLower(f.Q)
	found := slices.DeleteFunc(vhostsOf(frontends, servicesOf(all)), func(v vhostRow) bool {
		return !strings.Contains(v.Host, q) && !strings.Contains(v.Service, q)
	})
	v := struct {
		Find   listQuery
		Count  int
		Found  []vhostRow
		Pager  pager
		Unread bool
	}{Find: f, Count: len(frontends), Unread: err != nil}
	v.Found, v.Pager = cut(found, f, pageRows)
	return view{template: "frontends", Title: "Frontends", Section: "frontends", Body: v}, nil
}

// backendRow is the backends of one instance, or one foreign backend.
type backendRow struct {
	diagnose.Backend
	Positions []int
	Condition string // state of the instance; empty for a foreign backend
}

// backendRows makes one row of the backends of an instance that are routed alike. Rows that are not routed come first.
func (p *Page) backendRows(backends []diagnose.Backend) (rows []backendRow) {
	for position, b := range backends {
		at := slices.IndexFunc(rows, func(r backendRow) bool { return r.Backend == b && b.Instance != "" })
		if at >= 0 {
			rows[at].Positions = append(rows[at].Positions, position)
			continue
		}
		row := backendRow{Backend: b, Positions: []int{position}}
		if i, registered := p.Replica.Instance(b.Instance); registered {
			row.Condition = conditionOf(i)
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b backendRow) int {
		switch {
		case a.Routed == b.Routed:
			return 0
		case b.Routed:
			return -1
		}
		return 1
	})
	return rows
}

// explain shows how the proxy answers a Host header, and why.
func (p *Page) explain(c echo.Context, _ []app.Instance) (view, error) {
	var query struct {
		Host string `field:"host" validate:"text=500"`
	}
	if err := input.Query(c.Request(), &query); err != nil {
		return view{}, err
	}
	v := struct {
		diagnose.Explanation
		Slots, Unlisted []backendRow
		Unread          bool
	}{Explanation: diagnose.Explanation{Host: diagnose.Host{Header: query.Host}}}
	title := "Explain a host"
	if query.Host != "" {
		title = query.Host
		_, err := p.Replica.Age(time.Now())
		if err == nil {
			v.Explanation, err = p.Explainer.Explain(c.Request().Context(), query.Host)
		}
		if err != nil && !unread(err) {
			return view{}, err
		}
		v.Unread = err != nil
		listed, unlisted := diagnose.Backends(v.Frontend, p.Replica.Instance)
		v.Slots, v.Unlisted = p.backendRows(listed), p.backendRows(unlisted)
	}
	return view{template: "explain", Title: title, Section: "frontends", Body: v}, nil
}
