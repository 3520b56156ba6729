package redisstore

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"rollcall/app"
)

// record is the stored form of an instance. rev comes first: scripts read it without
// decoding the rest. Registered and until are in ms since 1970, the other times in ms since
// registered, durations in ms.
//
// To add a field, change three places: this type (or a nested record) with omitempty,
// recordOf, and record.instance. A record without the field must keep its meaning: the
// zero value, or for a check the value in usual. Write the field only if it has another
// value. A process of a version without the field neither probes nor judges an instance
// that has it, and keeps the field in all its writes (app.Instance's Unknown). Never give a
// field another type or meaning; add another field. A field that older versions may ignore
// without harm belongs into a key of its own, not here.
type record struct {
	Rev        int64             `json:"rev"`
	Service    string            `json:"service"`
	Address    string            `json:"address"`
	Hosts      []string          `json:"hosts,omitempty"`
	Weight     int               `json:"weight,omitempty"` // 0 means 1
	FailClosed bool              `json:"fail_closed,omitempty"`
	Boot       string            `json:"boot,omitempty"`
	Replaces   string            `json:"replaces,omitempty"`
	Replaced   bool              `json:"replaced,omitempty"` // the replacement is over: done, or reported as failed
	Tags       []string          `json:"tags,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
	Check      checkRecord       `json:"check,omitzero"`
	Override   *overrideRecord   `json:"override,omitempty"`
	Claims     *claimsRecord     `json:"claims,omitempty"`
	Hold       *int64            `json:"hold,omitempty"` // of a draining instance, ms; absent: usualDrainPeriod
	State      app.State         `json:"state"`
	Streak     int               `json:"streak,omitempty"`
	StreakAt   *int64            `json:"streak_at,omitempty"`
	Falls      int               `json:"falls,omitempty"`
	Last       *resultRecord     `json:"last,omitempty"`
	Registered int64             `json:"registered"`
	Changed    int64             `json:"changed,omitempty"`
}

// checkRecord omits the values of most checks to save memory; see usual.
type checkRecord struct {
	Kind     app.Kind     `json:"kind,omitempty"`
	Port     int          `json:"port,omitempty"`
	Path     string       `json:"path,omitempty"`
	Min      int          `json:"min,omitempty"` // of the statuses if they are one range
	Max      int          `json:"max,omitempty"`
	Statuses app.Statuses `json:"statuses,omitempty"` // if they are several ranges
	Body     string       `json:"body,omitempty"`
	Host     string       `json:"host,omitempty"`
	Method   string       `json:"method,omitempty"`
	Headers  string       `json:"headers,omitempty"`

	TLS        bool   `json:"tls,omitempty"`
	SkipVerify bool   `json:"skip_verify,omitempty"`
	ServerName string `json:"server_name,omitempty"`

	GRPCService string `json:"grpc_service,omitempty"`

	Interval int64 `json:"interval,omitempty"`
	Timeout  int64 `json:"timeout,omitempty"`
	Rise     int   `json:"rise,omitempty"`
	Fall     int   `json:"fall,omitempty"`
	Grace    int64 `json:"grace,omitempty"`
	Forget   int64 `json:"forget,omitempty"`
}

// usual holds the value of each check field that a record omits. It describes the stored
// records, not the defaults of a registration. The defaults may change; a value here must not.
// A field that is added later has the zero value here.
var usual = checkRecord{
	Kind: app.HTTP, Path: "/", Min: 200, Max: 399,
	Interval: 2000, Timeout: 1000, Rise: 2, Fall: 2, Grace: 60_000, Forget: 600_000,
}

// short omits the usual values. Only HTTP checks have a path and statuses.
func (c checkRecord) short() checkRecord {
	if c.Kind == usual.Kind {
		if lo, hi, ok := c.Statuses.Range(); ok {
			c.Statuses, c.Min, c.Max = "", unless(lo, usual.Min), unless(hi, usual.Max)
		}
		c.Path = unless(c.Path, usual.Path)
	}
	c.Kind = unless(c.Kind, usual.Kind)
	c.Interval, c.Timeout = unless(c.Interval, usual.Interval), unless(c.Timeout, usual.Timeout)
	c.Rise, c.Fall = unless(c.Rise, usual.Rise), unless(c.Fall, usual.Fall)
	c.Grace, c.Forget = unless(c.Grace, usual.Grace), unless(c.Forget, usual.Forget)
	return c
}

// whole restores the omitted values.
func (c checkRecord) whole() checkRecord {
	if c.Kind = cmp.Or(c.Kind, usual.Kind); c.Kind == usual.Kind {
		c.Path = cmp.Or(c.Path, usual.Path)
		if c.Statuses == "" {
			c.Statuses = app.StatusRange(cmp.Or(c.Min, usual.Min), cmp.Or(c.Max, usual.Max))
		}
	}
	c.Interval, c.Timeout = cmp.Or(c.Interval, usual.Interval), cmp.Or(c.Timeout, usual.Timeout)
	c.Rise, c.Fall = cmp.Or(c.Rise, usual.Rise), cmp.Or(c.Fall, usual.Fall)
	c.Grace, c.Forget = cmp.Or(c.Grace, usual.Grace), cmp.Or(c.Forget, usual.Forget)
	return c
}

// unless returns v, or the zero value if v is the usual value.
func unless[T comparable](v, usual T) (left T) {
	if v != usual {
		left = v
	}
	return left
}

type overrideRecord struct {
	Maintenance bool  `json:"maintenance,omitempty"`
	Weight      int   `json:"weight,omitempty"`
	Until       int64 `json:"until"`
}

// claimsRecord is the stored form of app.Claims. Times are in ms since 1970.
type claimsRecord struct {
	Moved  string        `json:"moved,omitempty"`
	Held   int64         `json:"held,omitempty"`
	Rivals []rivalRecord `json:"rivals,omitempty"`
	Peers  []startRecord `json:"peers,omitempty"`
}

type rivalRecord struct {
	Claimant string `json:"claimant"`
	At       int64  `json:"at"`
}

type startRecord struct {
	ID   string `json:"id"`
	Boot string `json:"boot,omitempty"`
}

func recordOfClaims(c app.Claims) *claimsRecord {
	if c.IsZero() {
		return nil
	}
	r := claimsRecord{Moved: c.Moved, Peers: peersOf(c)}
	if !c.HeldAt.IsZero() {
		r.Held = c.HeldAt.UnixMilli()
	}
	for _, rival := range c.Rivals {
		r.Rivals = append(r.Rivals, rivalRecord{rival.Claimant, rival.At.UnixMilli()})
	}
	return &r
}

func peersOf(c app.Claims) []startRecord {
	var peers []startRecord
	for _, p := range c.Peers {
		peers = append(peers, startRecord(p))
	}
	return peers
}

func (r claimsRecord) claims() app.Claims {
	c := app.Claims{Moved: r.Moved}
	if r.Held != 0 {
		c.HeldAt = time.UnixMilli(r.Held)
	}
	for _, rival := range r.Rivals {
		c.Rivals = append(c.Rivals, app.Rival{Claimant: rival.Claimant, At: time.UnixMilli(rival.At)})
	}
	for _, p := range r.Peers {
		c.Peers = append(c.Peers, app.Start(p))
	}
	return c
}

type resultRecord struct {
	At      int64    `json:"at,omitempty"` // ms since a time that depends on the record
	Latency int64    `json:"ms"`
	Passed  bool     `json:"ok,omitempty"`
	Code    app.Code `json:"code,omitempty"`
	Detail  string   `json:"detail,omitempty"`
}

func encode(i app.Instance, rev int64) (string, error) {
	doc, err := json.Marshal(recordOf(i, rev))
	if err == nil && i.Unknown != "" {
		doc, err = weave(doc, i.Unknown, reflect.TypeFor[record]())
	}
	if err != nil {
		return "", fmt.Errorf("encode instance %s: %w", i.ID, err)
	}
	return string(doc), nil
}

func recordOf(i app.Instance, rev int64) record {
	c, registered := i.Check, i.RegisteredAt.UnixMilli()
	r := record{
		Rev: rev, Service: i.Service, Address: i.Address, Hosts: i.Hosts,
		FailClosed: !i.FailOpen, Boot: i.Boot, Replaces: i.Replaces, Replaced: i.ReplaceOver, Tags: i.Tags, Meta: i.Meta,
		Claims: recordOfClaims(i.Claims),
		Check: checkRecord{
			Kind: c.Kind, Port: c.Port, Path: c.Path, Statuses: c.Statuses, Body: c.Body, Host: c.Host, Method: c.Method, Headers: c.Headers,
			TLS: c.TLS, SkipVerify: c.SkipVerify, ServerName: c.ServerName, GRPCService: c.GRPCService,
			Interval: c.Interval.Milliseconds(), Timeout: c.Timeout.Milliseconds(),
			Rise: c.Rise, Fall: c.Fall, Grace: c.Grace.Milliseconds(), Forget: c.Forget.Milliseconds(),
		}.short(),
		State: i.State, Streak: i.Streak, Falls: i.Falls,
		Registered: registered, Changed: i.ChangedAt.UnixMilli() - registered,
	}
	if !i.StreakAt.IsZero() {
		r.StreakAt = new(i.StreakAt.UnixMilli() - registered)
	}
	if i.Weight != 1 {
		r.Weight = i.Weight
	}
	if i.State == app.Draining {
		r.Hold = new(i.DrainPeriod.Milliseconds())
	}
	if o := i.Override; o != (app.Override{}) {
		r.Override = &overrideRecord{Maintenance: o.Maintenance, Weight: o.Weight, Until: o.Until.UnixMilli()}
	}
	if l := i.Last; l != (app.Result{}) {
		r.Last = recordOfResult(l, registered)
	}
	return r
}

// errUnreadable means that this version cannot decode a document at all.
var errUnreadable = errors.New("unreadable")

func decode(id, doc string) (app.Instance, error) {
	var r record
	unknown, err := unmarshal(doc, &r)
	if err != nil {
		return app.Instance{}, fmt.Errorf("decode instance %s: %w: %w", id, errUnreadable, err)
	}
	i := r.instance(id)
	i.Unknown = unknown
	return i, nil
}

func (r record) instance(id string) app.Instance {
	c := r.Check.whole()
	at := func(since int64) time.Time { return time.UnixMilli(r.Registered + since) }
	i := app.Instance{
		Rev: r.Rev, ID: id, Service: r.Service, Address: r.Address, Hosts: r.Hosts,
		Weight: max(r.Weight, 1), FailOpen: !r.FailClosed, Boot: r.Boot, Replaces: r.Replaces, ReplaceOver: r.Replaced, Tags: r.Tags, Meta: r.Meta,
		Check: app.Check{
			Kind: c.Kind, Port: c.Port, Path: c.Path, Statuses: c.Statuses, Body: c.Body, Host: c.Host, Method: c.Method, Headers: c.Headers,
			TLS: c.TLS, SkipVerify: c.SkipVerify, ServerName: c.ServerName, GRPCService: c.GRPCService,
			Interval: milliseconds(c.Interval), Timeout: milliseconds(c.Timeout),
			Rise: c.Rise, Fall: c.Fall, Grace: milliseconds(c.Grace), Forget: milliseconds(c.Forget),
		},
		State: r.State, Streak: r.Streak, Falls: r.Falls,
		RegisteredAt: at(0), ChangedAt: at(r.Changed),
	}
	if r.StreakAt != nil {
		i.StreakAt = at(*r.StreakAt)
	}
	if i.State == app.Draining {
		i.DrainPeriod = usualDrainPeriod
		if r.Hold != nil {
			i.DrainPeriod = milliseconds(*r.Hold)
		}
	}
	if o := r.Override; o != nil {
		i.Override = app.Override{Maintenance: o.Maintenance, Weight: o.Weight, Until: time.UnixMilli(o.Until)}
	}
	if c := r.Claims; c != nil {
		i.Claims = c.claims()
	}
	if l := r.Last; l != nil {
		i.Last = l.result(r.Registered)
	}
	return i
}

// usualDrainPeriod is the drain period of a record that predates the field.
const usualDrainPeriod = 5 * time.Second

func recordOfResult(r app.Result, since int64) *resultRecord {
	return &resultRecord{At: r.At.UnixMilli() - since, Latency: r.Latency.Milliseconds(), Passed: r.Passed, Code: r.Code, Detail: r.Detail}
}

func (r resultRecord) result(since int64) app.Result {
	return app.Result{At: time.UnixMilli(since + r.At), Latency: milliseconds(r.Latency), Passed: r.Passed, Code: r.Code, Detail: r.Detail}
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// encodeResult packs a result; see app.History.
func encodeResult(r app.Result) string {
	var h app.History
	h.Add(r)
	return string(h.Packed())
}

// decodeResults returns the results of an instance, oldest first.
func decodeResults(s string) []app.Result {
	var h app.History
	h.Unpack([]byte(s))
	return h.Results()
}

// eventRecord is the stored form of an event. The event's revision is the id of its entry.
type eventRecord struct {
	Kind     app.EventKind `json:"kind"`
	At       int64         `json:"at"`
	Service  string        `json:"service,omitempty"`
	Instance string        `json:"instance,omitempty"`
	From     app.State     `json:"from,omitempty"`
	To       app.State     `json:"to,omitempty"`
	Subject  string        `json:"subject,omitempty"`
	Reason   string        `json:"reason"`
	Actor    string        `json:"actor,omitempty"`

	Maintenance bool `json:"maintenance,omitempty"`
}

func encodeEvent(e app.Event) (string, error) {
	doc, err := json.Marshal(eventRecord{
		Kind: e.Kind, At: e.At.UnixMilli(), Service: e.Service, Instance: e.Instance,
		From: e.From, To: e.To, Subject: e.Subject, Reason: e.Reason, Actor: e.Actor, Maintenance: e.Maintenance,
	})
	if err != nil {
		return "", fmt.Errorf("encode event: %w", err)
	}
	return string(doc), nil
}

// decodeEntry decodes an entry of the stream. If it returns errUnreadable, the entry holds the revision and all fields
// that could be decoded, so that readers can continue after it.
func decodeEntry(id string, fields map[string]any) (app.Entry, error) {
	event, _ := fields["event"].(string)
	doc, _ := fields["doc"].(string)
	var r eventRecord
	if err := json.Unmarshal([]byte(event), &r); err != nil {
		return app.Entry{Event: app.Event{Revision: app.Revision(id)}}, fmt.Errorf("decode event %s: %w: %w", id, errUnreadable, err)
	}
	entry := app.Entry{Event: app.Event{
		Revision: app.Revision(id), Kind: r.Kind, At: time.UnixMilli(r.At).UTC(), Service: r.Service, Instance: r.Instance,
		From: r.From, To: r.To, Subject: r.Subject, Reason: r.Reason, Actor: r.Actor, Maintenance: r.Maintenance,
	}}
	if doc == "" {
		return entry, nil
	}
	i, err := decode(r.Instance, doc)
	entry.Instance = i
	return entry, err
}
