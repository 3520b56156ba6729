// Package view has the JSON of answers.
package view

import (
	"strings"
	"time"

	"rollcall/app"
	"rollcall/app/diagnose"
)

// Instance is an instance in an answer. Times are RFC 3339, durations are Go's.
type Instance struct {
	ID        string            `json:"id"`
	Service   string            `json:"service"`
	Address   string            `json:"address"`
	Hosts     []string          `json:"hosts"`
	State     app.State         `json:"state"`
	Since     *time.Time        `json:"since"`
	Weight    int               `json:"weight"`
	Tags      []string          `json:"tags,omitempty"`
	Meta      map[string]string `json:"meta,omitempty"`
	Boot      string            `json:"boot,omitempty"`
	Replaces  string            `json:"replaces,omitempty"`
	FailOpen  bool              `json:"fail_open"`
	Check     Check             `json:"check"`
	Flapping  *Flapping         `json:"flapping,omitempty"`
	Override  *Override         `json:"override,omitempty"`
	Revision  int64             `json:"instance_revision"`
	CreatedAt *time.Time        `json:"registered_at"`
}

// Flapping is the flapping of an instance that has repeatedly become unhealthy.
type Flapping struct {
	Times int        `json:"times"`           // times that it became unhealthy
	Wait  string     `json:"wait"`            // passes needed before it is healthy again, as a duration
	Until *time.Time `json:"until,omitempty"` // end of the flapping; only while it is healthy
}

// Override is an override of an operator.
type Override struct {
	Maintenance bool       `json:"maintenance,omitempty"`
	Weight      int        `json:"weight,omitempty"`
	Until       *time.Time `json:"until"`
}

// Check is the check of an instance.
type Check struct {
	Kind    app.Kind `json:"kind"`
	Target  string   `json:"target,omitempty"` // URL or address that is probed
	Expect  string   `json:"expect,omitempty"`
	Body    string   `json:"expect_body,omitempty"`
	Host    string   `json:"health_host,omitempty"`
	Method  string   `json:"health_method,omitempty"`
	Headers []string `json:"health_header,omitempty"` // names

	TLS        bool   `json:"tls,omitempty"`
	SkipVerify bool   `json:"tls_skip_verify,omitempty"`
	ServerName string `json:"tls_server_name,omitempty"`

	GRPCService string `json:"grpc_service,omitempty"`

	Interval string `json:"interval"`
	Timeout  string `json:"timeout"`
	Rise     int    `json:"rise"`
	Fall     int    `json:"fall"`
	Grace    string `json:"grace"`
	Forget   string `json:"forget"`
	Lease    string `json:"lease,omitempty"` // of a heartbeat instance
}

// Result is the result of one check.
type Result struct {
	At        *time.Time `json:"at"`
	Passed    bool       `json:"passed"`
	Reason    string     `json:"reason"`
	LatencyMS int64      `json:"latency_ms"`
}

// Instant returns a time in UTC and whole milliseconds, or nil for the zero time.
func Instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Millisecond)
	return &t
}

// InstanceOf returns an instance as it is now.
func InstanceOf(i app.Instance) Instance {
	v := Instance{
		ID: i.ID, Service: i.Service, Address: i.Address, Hosts: append([]string{}, i.Hosts...), State: i.State,
		Since: Instant(i.ChangedAt), Weight: i.Weight, Tags: i.Tags, Meta: i.Meta, Boot: i.Boot, Replaces: i.Replaces,
		FailOpen: i.FailOpen, Check: CheckOf(i), Revision: i.Rev, CreatedAt: Instant(i.RegisteredAt),
	}
	if i.Flapping(time.Now()) {
		v.Flapping = &Flapping{Times: i.Falls, Wait: i.Wait().String()}
		if i.State == app.Healthy {
			v.Flapping.Until = Instant(i.ChangedAt.Add(app.CalmAfter))
		}
	}
	if o := i.Override; o != (app.Override{}) {
		v.Override = &Override{Maintenance: o.Maintenance, Weight: o.Weight, Until: Instant(o.Until)}
	}
	return v
}

// InstancesOf returns instances in their order.
func InstancesOf(instances []app.Instance) []Instance {
	views := make([]Instance, len(instances))
	for n, i := range instances {
		views[n] = InstanceOf(i)
	}
	return views
}

// CheckOf returns the check of an instance.
func CheckOf(i app.Instance) Check {
	c := i.Check
	v := Check{
		Kind: c.Kind, Interval: c.Interval.String(), Timeout: c.Timeout.String(), Rise: c.Rise, Fall: c.Fall,
		Grace: c.Grace.String(), Forget: c.Forget.String(), Body: c.Body, Host: c.Host, Method: c.Method, Target: diagnose.Target(i),
		TLS: c.TLS, SkipVerify: c.SkipVerify, ServerName: c.ServerName, GRPCService: c.GRPCService,
	}
	if c.Kind == app.HTTP {
		v.Expect = string(c.Statuses)
	}
	for _, line := range c.HeaderLines() {
		name, _, _ := strings.Cut(line, ":")
		v.Headers = append(v.Headers, name)
	}
	if lease := c.Lease(); lease > 0 {
		v.Lease = lease.String()
	}
	return v
}

// ResultOf returns a result.
func ResultOf(r app.Result) Result {
	return Result{At: Instant(r.At), Passed: r.Passed, Reason: r.Reason(), LatencyMS: r.Latency.Milliseconds()}
}
