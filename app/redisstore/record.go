package redisstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"rollcall/app"
)

// record is an instance as it is stored. rev comes first: scripts read it without
// decoding the rest. Times are in ms since 1970, durations in ms. What a record of
// an older version lacks is the zero value, and has to mean what it meant then.
type record struct {
	Rev        int64             `json:"rev"`
	Service    string            `json:"service"`
	Address    string            `json:"address"`
	Hosts      []string          `json:"hosts,omitempty"`
	Weight     int               `json:"weight,omitempty"` // 0 means 1
	FailClosed bool              `json:"fail_closed,omitempty"`
	Boot       string            `json:"boot,omitempty"`
	Replaces   string            `json:"replaces,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
	Check      checkRecord       `json:"check"`
	Override   *overrideRecord   `json:"override,omitempty"`
	State      app.State         `json:"state"`
	Streak     int               `json:"streak,omitempty"`
	StreakAt   int64             `json:"streak_at,omitempty"`
	Last       *resultRecord     `json:"last,omitempty"`
	Registered int64             `json:"registered"`
	Changed    int64             `json:"changed"`
}

type checkRecord struct {
	Kind     app.Kind `json:"kind"`
	Port     int      `json:"port,omitempty"`
	Path     string   `json:"path,omitempty"`
	Min      int      `json:"min,omitempty"`
	Max      int      `json:"max,omitempty"`
	Body     string   `json:"body,omitempty"`
	Interval int64    `json:"interval"`
	Timeout  int64    `json:"timeout"`
	Rise     int      `json:"rise"`
	Fall     int      `json:"fall"`
	Grace    int64    `json:"grace"`
	Forget   int64    `json:"forget"`
}

type overrideRecord struct {
	Maintenance bool  `json:"maintenance,omitempty"`
	Weight      int   `json:"weight,omitempty"`
	Until       int64 `json:"until"`
}

type resultRecord struct {
	At      int64    `json:"at"`
	Latency int64    `json:"ms"`
	Passed  bool     `json:"ok,omitempty"`
	Code    app.Code `json:"code,omitempty"`
	Detail  string   `json:"detail,omitempty"`
}

func encode(i app.Instance, rev int64) (string, error) {
	doc, err := json.Marshal(recordOf(i, rev))
	if err != nil {
		return "", fmt.Errorf("encode instance %s: %w", i.ID, err)
	}
	return string(doc), nil
}

func recordOf(i app.Instance, rev int64) record {
	c := i.Check
	r := record{
		Rev: rev, Service: i.Service, Address: i.Address, Hosts: i.Hosts,
		FailClosed: !i.FailOpen, Boot: i.Boot, Replaces: i.Replaces, Tags: i.Tags, Meta: i.Meta,
		Check: checkRecord{
			Kind: c.Kind, Port: c.Port, Path: c.Path, Min: c.StatusMin, Max: c.StatusMax, Body: c.Body,
			Interval: c.Interval.Milliseconds(), Timeout: c.Timeout.Milliseconds(),
			Rise: c.Rise, Fall: c.Fall, Grace: c.Grace.Milliseconds(), Forget: c.Forget.Milliseconds(),
		},
		State: i.State, Streak: i.Streak,
		Registered: i.RegisteredAt.UnixMilli(), Changed: i.ChangedAt.UnixMilli(),
	}
	if !i.StreakAt.IsZero() {
		r.StreakAt = i.StreakAt.UnixMilli()
	}
	if i.Weight != 1 {
		r.Weight = i.Weight
	}
	if o := i.Override; o != (app.Override{}) {
		r.Override = &overrideRecord{Maintenance: o.Maintenance, Weight: o.Weight, Until: o.Until.UnixMilli()}
	}
	if l := i.Last; l != (app.Result{}) {
		r.Last = recordOfResult(l)
	}
	return r
}

// errUnreadable means that somebody else has written a document.
var errUnreadable = errors.New("unreadable")

func decode(id, doc string) (app.Instance, error) {
	var r record
	if err := json.Unmarshal([]byte(doc), &r); err != nil {
		return app.Instance{}, fmt.Errorf("decode instance %s: %w: %w", id, errUnreadable, err)
	}
	return r.instance(id), nil
}

func (r record) instance(id string) app.Instance {
	c := r.Check
	i := app.Instance{
		Rev: r.Rev, ID: id, Service: r.Service, Address: r.Address, Hosts: r.Hosts,
		Weight: max(r.Weight, 1), FailOpen: !r.FailClosed, Boot: r.Boot, Replaces: r.Replaces, Tags: r.Tags, Meta: r.Meta,
		Check: app.Check{
			Kind: c.Kind, Port: c.Port, Path: c.Path, StatusMin: c.Min, StatusMax: c.Max, Body: c.Body,
			Interval: milliseconds(c.Interval), Timeout: milliseconds(c.Timeout),
			Rise: c.Rise, Fall: c.Fall, Grace: milliseconds(c.Grace), Forget: milliseconds(c.Forget),
		},
		State: r.State, Streak: r.Streak,
		RegisteredAt: time.UnixMilli(r.Registered), ChangedAt: time.UnixMilli(r.Changed),
	}
	if r.StreakAt > 0 {
		i.StreakAt = time.UnixMilli(r.StreakAt)
	}
	if o := r.Override; o != nil {
		i.Override = app.Override{Maintenance: o.Maintenance, Weight: o.Weight, Until: time.UnixMilli(o.Until)}
	}
	if l := r.Last; l != nil {
		i.Last = l.result()
	}
	return i
}

func recordOfResult(r app.Result) *resultRecord {
	return &resultRecord{At: r.At.UnixMilli(), Latency: r.Latency.Milliseconds(), Passed: r.Passed, Code: r.Code, Detail: r.Detail}
}

func (r resultRecord) result() app.Result {
	return app.Result{At: time.UnixMilli(r.At), Latency: milliseconds(r.Latency), Passed: r.Passed, Code: r.Code, Detail: r.Detail}
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// A stored result is 14 characters: 8 of the time in ms, 3 of the latency in ms and
// 2 of the code, all in base 36, and + or - for passed or failed. Short and of one
// length, so that a script can cut off the oldest without reading them.
const resultLength = 14

const maxLatency = 36*36*36 - 1 // ms

func encodeResult(r app.Result) string {
	sign := "-"
	if r.Passed {
		sign = "+"
	}
	base36 := func(n int64) string { return strconv.FormatInt(n, 36) }
	return fmt.Sprintf("%08s%03s%02s%s", base36(r.At.UnixMilli()),
		base36(min(max(r.Latency.Milliseconds(), 0), maxLatency)), base36(int64(r.Code)), sign)
}

// decodeResults returns the results of an instance, oldest first.
func decodeResults(s string) []app.Result {
	number := func(s string) int64 {
		n, _ := strconv.ParseInt(s, 36, 64) // what we did not write is shown as zero
		return n
	}
	var results []app.Result
	for ; len(s) >= resultLength; s = s[resultLength:] {
		results = append(results, app.Result{
			At:      time.UnixMilli(number(s[:8])),
			Latency: milliseconds(number(s[8:11])),
			Code:    app.Code(number(s[11:13])), //nolint:gosec // two digits in base 36 fit
			Passed:  s[13] == '+',
		})
	}
	return results
}

// eventRecord is an event as it is stored; its revision is the id of its entry.
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
}

func encodeEvent(e app.Event) (string, error) {
	doc, err := json.Marshal(eventRecord{
		Kind: e.Kind, At: e.At.UnixMilli(), Service: e.Service, Instance: e.Instance,
		From: e.From, To: e.To, Subject: e.Subject, Reason: e.Reason, Actor: e.Actor,
	})
	if err != nil {
		return "", fmt.Errorf("encode event: %w", err)
	}
	return string(doc), nil
}

func decodeEntry(id string, fields map[string]any) (app.Entry, error) {
	event, _ := fields["event"].(string)
	doc, _ := fields["doc"].(string)
	var r eventRecord
	if err := json.Unmarshal([]byte(event), &r); err != nil {
		return app.Entry{}, fmt.Errorf("decode event %s: %w", id, err)
	}
	entry := app.Entry{Event: app.Event{
		Revision: app.Revision(id), Kind: r.Kind, At: time.UnixMilli(r.At).UTC(), Service: r.Service, Instance: r.Instance,
		From: r.From, To: r.To, Subject: r.Subject, Reason: r.Reason, Actor: r.Actor,
	}}
	if doc == "" {
		return entry, nil
	}
	i, err := decode(r.Instance, doc)
	entry.Instance = i
	return entry, err
}
