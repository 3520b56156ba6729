package page

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/diagnose"
	"rollcall/handlers/input"
)

const (
	pageRows   = 50 // of a list on its own page
	panelRows  = 8  // of a list beside others
	pageEvents = 50
	pageTags   = 12 // tags that a list offers

	defaultRange = "24h"
)

// listQuery is the search of a list and the page of it that is shown.
type listQuery struct {
	Q       string `field:"q" validate:"text=200"`
	State   string `field:"state" validate:"omitempty,oneof=unhealthy failed starting draining maintenance healthy"`
	Service string `field:"service" validate:"text=200"`
	Page    int    `field:"page"`
	Sort    string `field:"sort" validate:"omitempty,oneof=state id service address since -state -id -service -address -since"`
	Tag     string `field:"tag" validate:"text=200"`
	Range   string `field:"range" validate:"oneof=1h 24h 7d 30d"` // of a service's history

	Path   string   // of the list
	States []string // offered by the form
}

func listQueryOf(c echo.Context, path string) (listQuery, error) {
	f := listQuery{Page: 1, Range: defaultRange}
	err := input.Query(c.Request(), &f)
	f.Path, f.States = path, conditions
	f.Q = strings.TrimSpace(f.Q)
	return f, err
}

// Narrowed reports whether the query selects a part of the list.
func (f listQuery) Narrowed() bool {
	return f.Q != "" || f.State != "" || f.Service != "" || f.Tag != ""
}

// selects reports whether an instance has the state, the service and the text of the query.
func (f listQuery) selects(i app.Instance) bool {
	if f.State != "" && conditionOf(i) != f.State || f.Service != "" && i.Service != f.Service {
		return false
	}
	if f.Tag != "" && !slices.Contains(i.Tags, f.Tag) {
		return false
	}
	return f.Q == "" || slices.ContainsFunc(textsOf(i), func(text string) bool {
		return strings.Contains(strings.ToLower(text), strings.ToLower(f.Q))
	})
}

// textsOf returns the texts of an instance that a search looks in.
func textsOf(i app.Instance) []string {
	texts := append([]string{i.ID, i.Service, i.Address}, i.Hosts...)
	texts = append(texts, i.Tags...)
	for name, value := range i.Meta {
		texts = append(texts, name+"="+value)
	}
	return texts
}

// pager is the range of the rows that a page shows, with links to the pages before and after it.
type pager struct {
	From, To, Total int
	Earlier, Later  string // URLs; empty if there is no such page
}

// cut returns the rows of one page. For a number above that of the last page it returns the last page, because the list may have
// become shorter.
func cut[T any](rows []T, f listQuery, size int) ([]T, pager) {
	last := max(1, (len(rows)+size-1)/size)
	n := min(f.Page, last)
	p := pager{From: (n-1)*size + 1, To: min(n*size, len(rows)), Total: len(rows)}
	if n > 1 {
		p.Earlier = f.url(n - 1)
	}
	if n < last {
		p.Later = f.url(n + 1)
	}
	return rows[p.From-1 : p.To], p
}

func (f listQuery) url(page int) string {
	v := url.Values{}
	for _, p := range []struct{ name, value string }{
		{"q", f.Q}, {"state", f.State}, {"service", f.Service}, {"tag", f.Tag}, {"sort", f.Sort}, {"range", f.Range}, {"page", strconv.Itoa(page)},
	} {
		if p.value != "" && p.value != unsaid[p.name] {
			v.Set(p.name, p.value)
		}
	}
	return f.Path + "?" + v.Encode()
}

// unsaid are the values that a URL of a list omits.
var unsaid = map[string]string{"range": defaultRange}

// Sorted returns the URL of the list ordered by a column, or in the reverse order if it has that order.
func (f listQuery) Sorted(by string) string {
	if f.Sort == by {
		by = "-" + by
	}
	f.Sort = by
	return f.url(1)
}

// Order returns the order of a column for aria-sort: ascending, descending or "". The order by state begins with the worst.
func (f listQuery) Order(by string) string {
	switch cmp.Or(f.Sort, "state") {
	case by:
		return "ascending"
	case "-" + by:
		return "descending"
	}
	return ""
}

// WithTag returns the URL of the list with the instances that have a tag, or of all if the query has that tag.
func (f listQuery) WithTag(tag string) string {
	if f.Tag == tag {
		tag = ""
	}
	f.Tag = tag
	return f.url(1)
}

// InRange returns the URL of the page of a service with the history of another range.
func (f listQuery) InRange(name string) string {
	f.Range = name
	return f.url(f.Page)
}

// InState returns the URL of the list with the instances of one state, or of all states if it is empty.
func (f listQuery) InState(state string) string {
	f.State = state
	return f.url(1)
}

// order sorts instances, which are in the order of their states, by the column that the query names.
func (f listQuery) order(found []app.Instance) {
	by, reversed := strings.CutPrefix(f.Sort, "-")
	compare := map[string]func(a, b app.Instance) int{
		"id":      func(a, b app.Instance) int { return cmp.Compare(a.ID, b.ID) },
		"service": func(a, b app.Instance) int { return cmp.Compare(a.Service, b.Service) },
		"address": func(a, b app.Instance) int { return cmp.Compare(a.Address, b.Address) },
		"since":   func(a, b app.Instance) int { return b.ChangedAt.Compare(a.ChangedAt) },
	}[by]
	if compare != nil {
		slices.SortStableFunc(found, compare)
	}
	if reversed {
		slices.Reverse(found)
	}
}

// tagsOf returns the most frequent tags of instances and the selected tag, sorted by name.
func tagsOf(instances []app.Instance, selected string) []string {
	counts := map[string]int{}
	for _, i := range instances {
		for _, tag := range i.Tags {
			counts[tag]++
		}
	}
	tags := slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) })
	tags = tags[:min(len(tags), pageTags)]
	if selected != "" && !slices.Contains(tags, selected) {
		tags = append(tags, selected)
	}
	slices.Sort(tags)
	return tags
}

// instanceRow is an instance in a list.
type instanceRow struct {
	app.Instance
	Condition, Why string
	Since          moment
	Flapping       bool
	Latency        string // of the last probe; empty if none is known
}

func (p *Page) rowsOf(ctx context.Context, instances []app.Instance) []instanceRow {
	rows, last := make([]instanceRow, len(instances)), p.lastResultsOf(ctx, instances)
	for n, i := range instances {
		rows[n] = instanceRow{Instance: i, Condition: conditionOf(i), Why: diagnose.Summary(i), Since: p.moment(i.ChangedAt), Flapping: i.Flapping(p.Now())}
		if r, known := last[i.ID]; known {
			rows[n].Latency = latency(r.Latency)
		}
	}
	return rows
}

const (
	resultsFresh = 5 * time.Second // how old the results in a list may be; workers flush as often
	resultsUpTo  = 100_000         // instances in the registry; above that, the records of a list's shards are too large
)

// lastResultsOf returns the last results of probed instances. It returns none if Redis does not answer.
func (p *Page) lastResultsOf(ctx context.Context, instances []app.Instance) map[string]app.Result {
	if _, err := p.Replica.Age(time.Now()); err != nil || p.Replica.Len() > resultsUpTo {
		return nil
	}
	var ids []string
	for _, i := range instances {
		if i.Check.Probed() {
			ids = append(ids, i.ID)
		}
	}
	found, err := p.lastResults.get(resultsFresh, ids, func(missing []string) (map[string]app.Result, error) {
		return p.Store.LastResults(ctx, missing)
	})
	if err != nil {
		return nil
	}
	return found
}

// serviceRow is a service in a list.
type serviceRow struct {
	Name     string
	Tally    tally
	Strip    strip
	Flapping int // instances
}

// servicesOf counts instances by service. Services without a routable instance come first, then the services with
// the most instances down, then those with the most instances that are not healthy.
func servicesOf(instances []app.Instance) []serviceRow {
	by := map[string]tally{}
	for _, i := range instances {
		if by[i.Service] == nil {
			by[i.Service] = tally{}
		}
		by[i.Service][conditionOf(i)]++
	}
	rows := make([]serviceRow, 0, len(by))
	for name, t := range by {
		rows = append(rows, serviceRow{Name: name, Tally: t})
	}
	slices.SortFunc(rows, func(a, b serviceRow) int {
		x, y := a.Tally, b.Tally
		return cmp.Or(
			cmp.Compare(min(x.Up(), 1), min(y.Up(), 1)), cmp.Compare(y.Down(), x.Down()),
			cmp.Compare(y.Total()-y.Up(), x.Total()-x.Up()), cmp.Compare(a.Name, b.Name),
		)
	})
	return rows
}

// eventRow is an event in a list.
type eventRow struct {
	app.Event
	Condition string // state after the event
	When      moment
	Count     int    // equal events in a row
	Day       string // heading before the event; empty within a day
}

func (p *Page) eventsOf(events []app.Event) []eventRow {
	rows := make([]eventRow, len(events))
	for n, e := range events {
		rows[n] = eventRow{Event: e, Condition: cmp.Or(string(e.To), "other"), When: p.moment(e.At), Count: 1}
	}
	return rows
}

// collapse makes one row of equal events in a row, and puts a heading before each day.
func collapse(rows []eventRow) (kept []eventRow) {
	day := ""
	for _, r := range rows {
		if last := len(kept) - 1; last >= 0 {
			k := kept[last]
			if k.Kind == r.Kind && k.Instance == r.Instance && k.Subject == r.Subject && k.Reason == r.Reason && k.Actor == r.Actor {
				kept[last].Count++
				continue
			}
		}
		if d := r.At.UTC().Format("Monday, 2 January 2006 (UTC)"); d != day {
			day, r.Day = d, d
		}
		kept = append(kept, r)
	}
	return kept
}

func (p *Page) latest(limit int, wanted func(app.Event) bool) []eventRow {
	return p.eventsOf(p.Replica.Latest("", limit, wanted))
}

func anyEvent(app.Event) bool { return true }

// overview shows every service, the vhosts with the most faults and the last events.
func (p *Page) overview(c echo.Context, all []app.Instance) (view, error) {
	var query struct {
		Page int `field:"page"`
	}
	query.Page = 1
	if err := input.Query(c.Request(), &query); err != nil {
		return view{}, err
	}
	vhosts, err := p.readVhosts(c)
	if err != nil && !unread(err) {
		return view{}, err
	}
	v := struct {
		Find         listQuery
		Tally        tally
		Attention    []alarm
		ServiceCount int
		Services     []serviceRow
		Pager        pager
		Vhosts       []vhostRow
		VhostCount   int
		Unread       bool
		Events       []eventRow
	}{
		Find: listQuery{Path: "/instances", States: conditions}, Tally: tallyOf(all),
		VhostCount: len(vhosts), Unread: err != nil, Events: p.latest(panelRows, anyEvent),
	}
	services := servicesOf(all)
	worst := vhostsOf(vhosts, services)
	v.ServiceCount = len(services)
	v.Services, v.Pager = cut(services, listQuery{Path: "/", Page: query.Page}, pageRows/2)
	strips := p.strips(c.Request().Context(), v.Services)
	flapping := map[string]int{}
	for _, i := range all {
		if i.Flapping(p.Now()) {
			flapping[i.Service]++
		}
	}
	for n, s := range v.Services {
		v.Services[n].Strip, v.Services[n].Flapping = strips[s.Name], flapping[s.Name]
	}
	v.Attention = p.attention(c.Request().Context(), all, services, worst)
	v.Vhosts = worst[:min(len(worst), panelRows)]
	return view{template: "overview", Title: "Overview", Section: "overview", Body: v}, nil
}

// instances lists the instances that the query selects.
func (p *Page) instances(c echo.Context, all []app.Instance) (view, error) {
	f, err := listQueryOf(c, "/instances")
	if err != nil {
		return view{}, err
	}
	return view{template: "instances", Title: "Instances", Section: "instances", Body: p.instanceList(c.Request().Context(), f, all)}, nil
}

// instanceList is a list of instances, of one service or of all.
type instanceList struct {
	Find    listQuery
	Service string
	Tally   tally // of all instances, also those that the query does not select
	Found   []instanceRow
	Pager   pager
	Tags    []string
	Hosts   []string
	Events  []eventRow
	Past    past
}

func (p *Page) instanceList(ctx context.Context, f listQuery, all []app.Instance) instanceList {
	var found []app.Instance
	for _, condition := range conditions { // worst first
		for _, i := range all {
			if conditionOf(i) == condition && f.selects(i) {
				found = append(found, i)
			}
		}
	}
	f.order(found)
	v := instanceList{Find: f, Tally: tallyOf(all), Tags: tagsOf(all, f.Tag)}
	shown, pager := cut(found, f, pageRows)
	v.Found, v.Pager = p.rowsOf(ctx, shown), pager
	return v
}

// service shows a service: its instances, vhosts and events.
func (p *Page) service(c echo.Context, _ []app.Instance) (view, error) {
	name := c.Param("name")
	f, err := listQueryOf(c, "/services/"+name)
	if err != nil {
		return view{}, err
	}
	all := p.Replica.Instances(name)
	events := p.latest(panelRows, func(e app.Event) bool { return e.Service == name })
	if len(all) == 0 && len(events) == 0 || name == "" {
		return view{}, input.Hint(fmt.Errorf("service %s: %w", input.Quote(name), app.ErrNotFound), "look for it among the services")
	}
	v := p.instanceList(c.Request().Context(), f, all)
	v.Service, v.Events = name, events
	for _, i := range all {
		v.Hosts = append(v.Hosts, i.Hosts...)
	}
	if v.Past, err = p.past(c.Request().Context(), name, f); err != nil {
		return view{}, err
	}
	slices.Sort(v.Hosts)
	v.Hosts = slices.Compact(v.Hosts)
	return view{template: "instances", Title: name, Section: "overview", Body: v}, nil
}

// events lists events, newest first.
func (p *Page) events(c echo.Context, _ []app.Instance) (view, error) {
	var query struct {
		Q      string `field:"q" validate:"text=200"`
		Before string `field:"before"`
		Kind   string `field:"kind" validate:"omitempty,eventkind"`
	}
	if err := input.Query(c.Request(), &query); err != nil {
		return view{}, err
	}
	before := app.Revision(query.Before)
	if before != "" && !before.Valid() {
		return view{}, &app.FieldError{Field: "before", Problem: "is " + input.Quote(query.Before), Want: "give the id of an event"}
	}
	q := strings.ToLower(strings.TrimSpace(query.Q))
	events := p.Replica.Latest(before, pageEvents+1, func(e app.Event) bool {
		return (query.Kind == "" || string(e.Kind) == query.Kind) && strings.Contains(strings.ToLower(strings.Join([]string{string(e.Kind), e.Service, e.Instance, e.Subject, e.Reason}, "\n")), q)
	})
	v := struct {
		Q      string
		Kind   string
		Kinds  []app.EventKind
		Older  bool // the page does not begin with the newest event
		Events []eventRow
		Next   app.Revision // upper end of the next page; empty if this is the last one
	}{Q: query.Q, Kind: query.Kind, Kinds: app.EventKinds, Older: before != "", Events: collapse(p.eventsOf(events[:min(len(events), pageEvents)]))}
	if len(events) > pageEvents {
		v.Next = events[pageEvents-1].Revision
	}
	return view{template: "events", Title: "Events", Section: "events", Body: v}, nil
}
