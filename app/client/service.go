package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	changesWithin = 20 * time.Second // how long Changes waits for a change
	answerWithin  = 10 * time.Second // how much longer the answer may take
	reasonWithin  = 2 * time.Second  // how long Unhealthy may take
	askAgain      = 300 * time.Millisecond
)

// Standing returns the state of an instance, with ",flapping" and ",maintenance" if they apply.
func (i Instance) Standing() string {
	state := string(i.State)
	if f := i.Flapping; f != nil && (f.Until == nil || time.Now().Before(*f.Until)) {
		state += ",flapping"
	}
	if i.inMaintenance() {
		state += ",maintenance"
	}
	return state
}

func (i Instance) inMaintenance() bool {
	return i.Override != nil && i.Override.Maintenance != nil && *i.Override.Maintenance
}

// InState lists the instances of a service in a state, or in "any".
func (c *Client) InState(ctx context.Context, service string, state ServiceParamsState) ([]Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	list, err := Read[ServiceDetail](c.Service(ctx, service, &ServiceParams{State: &state}))
	return list.Instances, err
}

// Changes waits up to 20 s for a change of a service since tag, the ETag of the last answer, and returns its healthy
// instances and the new tag. Without a change it returns tag and no instances. An empty tag does not wait.
func (c *Client) Changes(ctx context.Context, service, tag string) (healthy []Instance, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, changesWithin+answerWithin)
	defer cancel()
	wait := changesWithin.String()
	params := &ServiceParams{Wait: &wait}
	if tag != "" {
		params.IfNoneMatch = &tag
	}
	resp, err := Accepted(c.Service(ctx, service, params))
	if err != nil {
		return nil, "", err
	}
	if resp.StatusCode == http.StatusNotModified {
		_ = resp.Body.Close()
		return nil, tag, nil
	}
	list, err := Read[ServiceDetail](resp, nil)
	return list.Instances, resp.Header.Get("ETag"), err
}

// AwaitHealthy waits until a service has a healthy instance. It returns the context's error, with the last error of the
// API, when the context ends first. It returns an answer that no wait can change, such as an invalid name, at once.
func (c *Client) AwaitHealthy(ctx context.Context, service string) error {
	for tag := ""; ; {
		healthy, next, err := c.Changes(ctx, service, tag)
		if err == nil && len(healthy) > 0 {
			return nil
		}
		if isFinal(err) {
			return err
		}
		if tag = next; err != nil {
			tag = ""
			_ = sleep(ctx, askAgain)
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// isFinal reports whether an answer stays the same until the caller changes its call or its token.
func isFinal(err error) bool {
	refused, ok := errors.AsType[*Error](err)
	return ok && slices.Contains(finalStatuses, refused.Status)
}

var finalStatuses = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity}

// Unhealthy describes why a service has no healthy instance: its instances with their states and last failures. waited
// is the error of AwaitHealthy, for the case that the API gives no reason.
func (c *Client) Unhealthy(ctx context.Context, service string, waited error) string {
	ctx, cancel := context.WithTimeout(ctx, reasonWithin)
	defer cancel()
	instances, err := c.InState(ctx, service, "any")
	switch {
	case IsStatus(err, http.StatusNotFound):
		return service + ": no instance is registered"
	case err != nil:
		return service + ": " + err.Error()
	case len(instances) == 0:
		return service + ": " + waited.Error()
	}
	var each []string
	for _, i := range instances {
		each = append(each, i.Id+" is "+i.Standing()+c.lastFailure(ctx, i.Id))
	}
	return fmt.Sprintf("%s: %s", service, strings.Join(each, ", "))
}

// lastFailure returns the last result of an instance in parentheses, or "" if there is none.
func (c *Client) lastFailure(ctx context.Context, id string) string {
	detail, err := Read[InstanceDetail](c.Instance(ctx, id))
	if err != nil || detail.Last == nil {
		return ""
	}
	return " (" + detail.Last.Reason + ")"
}
