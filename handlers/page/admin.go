package page

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/diagnose"
	"rollcall/app/ownership"
)

// WebhookList answers with the webhooks and a form that creates one.
func (p *Page) WebhookList(c echo.Context) error { return p.serve(c, p.webhooks) }

// Webhook answers with one webhook and its last deliveries.
func (p *Page) Webhook(c echo.Context) error { return p.serve(c, p.webhook) }

// TokenList answers with the tokens and a form that creates one.
func (p *Page) TokenList(c echo.Context) error { return p.serve(c, p.tokens) }

// System answers with the workers, their shards and the state of Redis.
func (p *Page) System(c echo.Context) error { return p.serve(c, p.system) }

// webhookRow is a webhook without its secrets.
type webhookRow struct {
	ID, URL, Format, Description, Paused string
	Services                             []string
	Kinds                                []app.EventKind
	Failures                             int
	Failing, Next                        moment
}

func (p *Page) webhookRow(w app.Webhook) webhookRow {
	return webhookRow{
		ID: w.ID, URL: w.URL, Format: string(w.Format), Description: w.Description, Paused: w.Paused, Services: w.Services, Kinds: w.Kinds,
		Failures: w.Failures, Failing: p.moment(w.Failing), Next: p.moment(w.Due),
	}
}

func (p *Page) webhooks(c echo.Context, _ []app.Instance) (view, error) {
	v := struct {
		Rows   []webhookRow
		Kinds  []app.EventKind
		Unread bool
	}{Kinds: app.EventKinds}
	_, err := p.Replica.Age(time.Now())
	var all []app.Webhook
	if err == nil {
		all, err = p.Webhooks.List(c.Request().Context())
	}
	if err != nil && !unread(err) {
		return view{}, err
	}
	v.Unread = err != nil
	for _, w := range all {
		v.Rows = append(v.Rows, p.webhookRow(w))
	}
	return view{template: "webhooks", Title: "Webhooks", Section: "webhooks", Body: v}, nil
}

// attemptRow is one attempt to deliver a message.
type attemptRow struct {
	Message, Kind, Answer, Latency string
	Number                         int
	Passed                         bool
	When                           moment
}

func (p *Page) webhook(c echo.Context, _ []app.Instance) (view, error) {
	ctx, id := c.Request().Context(), c.Param("id")
	w, err := p.Webhooks.Get(ctx, id)
	if err != nil {
		return view{}, err
	}
	attempts, err := p.Webhooks.Attempts(ctx, id)
	if err != nil {
		return view{}, err
	}
	v := struct {
		webhookRow
		Attempts []attemptRow
	}{webhookRow: p.webhookRow(w)}
	for _, a := range attempts {
		v.Attempts = append(v.Attempts, attemptRow{a.Message, a.Kind, a.Reason(), latency(a.Latency), a.Number, a.Passed, p.moment(a.At)})
	}
	return view{template: "webhook", Title: id, Section: "webhooks", Body: v}, nil
}

// tokenRow is a token. The page never has its secret.
type tokenRow struct {
	ID, Name         string
	Scopes           []auth.Scope
	Created, Expires moment
}

func (p *Page) tokens(c echo.Context, _ []app.Instance) (view, error) {
	var v struct {
		Rows   []tokenRow
		Unread bool
	}
	_, err := p.Replica.Age(time.Now())
	var all []auth.Token
	if err == nil {
		all, err = p.Tokens.List(c.Request().Context())
	}
	if err != nil && !unread(err) {
		return view{}, err
	}
	v.Unread = err != nil
	for _, t := range all {
		v.Rows = append(v.Rows, tokenRow{t.ID, t.Name, t.Scopes, p.moment(t.CreatedAt), p.moment(t.ExpiresAt)})
	}
	return view{template: "tokens", Title: "Tokens", Section: "tokens", Body: v}, nil
}

// workerRow is a worker and the number of its shards.
type workerRow struct {
	ID        string
	Shards    int
	Suspended bool // its self-check fails
}

// systemBody is the body of the page of the system.
type systemBody struct {
	Workers         []workerRow
	Unowned, Shards int
	Web             bool   // a web process has been here
	Version         string // of this process
	Redis           []fact
	Findings        []diagnose.Finding
	Unread          bool
}

// fact is a field of Redis's INFO.
type fact struct{ Name, Value string }

var redisFacts = []fact{
	{"Version", "redis_version"},
	{"Role", "role"},
	{"Memory", "used_memory_human"},
	{"Clients", "connected_clients"},
	{"Replicas", "connected_slaves"},
	{"Append-only file", "aof_enabled"},
	{"Snapshots", "save"},
	{"Eviction", "maxmemory_policy"},
}

func (p *Page) system(c echo.Context, _ []app.Instance) (view, error) {
	ctx, v := c.Request().Context(), systemBody{Shards: ownership.Shards, Version: p.Version}
	_, err := p.Replica.Age(time.Now())
	var w diagnose.Workers
	if err == nil {
		w, err = p.Store.Workers(ctx)
	}
	var server diagnose.Server
	if err == nil {
		server, err = p.Store.Server(ctx)
	}
	if err != nil && !unread(err) {
		return view{}, err
	}
	if v.Unread = err != nil; !v.Unread {
		v.Workers, v.Unowned, v.Web, v.Findings = workersOf(w), unownedShards(w), w.Web != "", server.Findings()
	}
	for _, f := range redisFacts {
		if value, known := server[f.Value]; known {
			v.Redis = append(v.Redis, fact{f.Name, value})
		}
	}
	return view{template: "system", Title: "System", Section: "system", Body: v}, nil
}

// shardsOf counts the shards of each owner.
func shardsOf(w diagnose.Workers) map[string]int {
	sizes := map[string]int{}
	for n := range ownership.Shards {
		sizes[ownership.Term(w.Terms[strconv.Itoa(n)]).Worker()]++
	}
	return sizes
}

// isSuspended reports whether a worker has written with its counter that its self-check fails.
func isSuspended(counter string) bool { return strings.HasSuffix(counter, " s") }

func workersOf(w diagnose.Workers) (rows []workerRow) {
	sizes := shardsOf(w)
	for id, counter := range w.Counters {
		rows = append(rows, workerRow{id, sizes[id], isSuspended(counter)})
	}
	slices.SortFunc(rows, func(a, b workerRow) int { return b.Shards - a.Shards })
	return rows
}

// unownedShards counts the shards whose owner is not a known worker.
func unownedShards(w diagnose.Workers) (unowned int) {
	for id, shards := range shardsOf(w) {
		if _, known := w.Counters[id]; !known {
			unowned += shards
		}
	}
	return unowned
}
