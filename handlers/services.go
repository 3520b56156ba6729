package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/handlers/input"
	"rollcall/handlers/view"
)

// services handles the reads by which other containers find instances.
type services struct {
	reads
	history history
	serving context.Context //nolint:containedctx // its end ends long polls
	turns   sync.Map        // by service, a *atomic.Uint64: the number of picks by round robin
}

// serviceCount is a service in the list of services.
type serviceCount struct {
	Name      string `json:"name"`
	Healthy   int    `json:"healthy"`
	Instances int    `json:"instances"`
}

// list answers with every service and the numbers of its instances.
func (h *services) list(c echo.Context) error {
	if _, err := h.age(); err != nil {
		return err
	}
	rev := h.replica.Revision()
	counts := map[string]serviceCount{}
	for i := range h.replica.All() {
		s := counts[i.Service]
		s.Name = i.Service
		if s.Instances++; i.Routable() {
			s.Healthy++
		}
		counts[i.Service] = s
	}
	list := slices.AppendSeq([]serviceCount{}, maps.Values(counts))
	slices.SortFunc(list, func(a, b serviceCount) int { return strings.Compare(a.Name, b.Name) })
	return c.JSON(http.StatusOK, map[string]any{"revision": rev, "services": list})
}

// get answers with the healthy instances of a service, or with those in another ?state=. With If-None-Match and ?wait=
// it answers when the service changes.
func (h *services) get(c echo.Context) error {
	query := struct {
		State string        `field:"state" validate:"oneof=starting healthy unhealthy failed draining any"`
		Wait  time.Duration `field:"wait" validate:"min=0s,max=5m"`
	}{State: string(app.Healthy)}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	ctx, name, seen := c.Request().Context(), c.Param("name"), h.seenRevision(c.Request(), c.Param("name"))
	if err := h.awaitChange(ctx, name, seen, query.Wait); err != nil {
		return err
	}
	now := h.replica.Revision()
	service, err := h.service(name)
	if err != nil {
		return err
	}
	rev := service.Revision
	if h.upToDate(ctx, name, seen) {
		c.Response().Header().Set("ETag", etag(tagAfter(seen, rev, now)))
		return c.NoContent(http.StatusNotModified)
	}
	c.Response().Header().Set("ETag", etag(rev))
	if query.State == string(app.Healthy) { // most calls: encoded once per change
		answer := service.Encoded(func() []byte { return serviceAnswer(name, rev, service.Routable) })
		return c.JSONBlob(http.StatusOK, answer)
	}
	instances := slices.DeleteFunc(slices.Clone(service.Instances), func(i app.Instance) bool { return !selected(i, query.State) })
	return c.JSONBlob(http.StatusOK, serviceAnswer(name, rev, instances))
}

// tagAfter returns the tag for a caller that has seen the last change rev of a service. A later tag is of another
// process, and now replaces it so that its event stays in memory.
func tagAfter(seen, rev, now app.Revision) app.Revision {
	if seen.Compare(rev) > 0 && now.Compare(seen) > 0 {
		return now
	}
	return seen
}

func serviceAnswer(name string, rev app.Revision, instances []app.Instance) []byte {
	answer, _ := json.Marshal(map[string]any{"revision": rev, "service": name, "instances": view.InstancesOf(instances)}) // text and numbers always have a JSON form
	return append(answer, '\n')
}

// selected reports whether ?state= selects an instance. An instance in maintenance may be healthy, but
// healthy selects routable instances only.
func selected(i app.Instance, state string) bool {
	if state == string(app.Healthy) {
		return i.Routable()
	}
	return state == "any" || state == string(i.State)
}

// awaitChange waits until a service has a newer revision than the one that the caller has seen, at most for wait. It
// returns an error only if the caller has gone.
func (h *services) awaitChange(ctx context.Context, service string, seen app.Revision, wait time.Duration) error {
	resets := h.replica.Resets()
	if wait == 0 || !h.upToDate(ctx, service, seen) {
		return nil
	}
	waiting, cancel := whileServing(ctx, h.serving)
	defer cancel()
	waiting, cancel = context.WithTimeout(waiting, wait)
	defer cancel()
	_ = h.replica.Wait(waiting, func() bool { // get answers in any case
		if h.replica.Resets() != resets {
			return true // Redis may have been emptied or restored
		}
		newer := h.replica.ServiceRevision(service).Compare(seen)
		return newer > 0 || newer == 0 && h.replica.Service(service) == nil // the service has lost its last instance
	})
	return ctx.Err()
}

func etag(r app.Revision) string { return `"` + string(r) + `"` }

// entityTag matches one of Rollcall's tags in an If-None-Match list (RFC 9110, 13.1.2), weak or
// not. Proxies that compress answers add a suffix inside the quotes: Apache "-gzip", Jetty "--gzip".
var entityTag = regexp.MustCompile(`^(?:W/)?"?([0-9]+-[0-9]+)(?:[-;:+._][^"]*)?"?$`)

// seenRevision returns the newest revision of a service that the caller has seen, from
// If-None-Match; "" if it has seen none. "*" stands for the current revision. Revisions are
// ordered, so a tag of one process is valid in a call to another process, whose replica may have
// begun later or lag behind.
func (h *services) seenRevision(r *http.Request, service string) (seen app.Revision) {
	for tag := range strings.SplitSeq(strings.Join(r.Header.Values("If-None-Match"), ","), ",") {
		rev := h.revisionOf(strings.Trim(tag, " \t"), service)
		if rev.Valid() && (seen == "" || rev.Compare(seen) > 0) {
			seen = rev
		}
	}
	return seen
}

func (h *services) revisionOf(tag, service string) app.Revision {
	if tag == "*" && h.replica.Service(service) != nil {
		return h.replica.ServiceRevision(service)
	}
	if m := entityTag.FindStringSubmatch(tag); m != nil {
		return app.Revision(m[1])
	}
	return ""
}

// upToDate reports whether a caller that has seen a revision has seen the last change of a
// service. A revision is the id of an event. A revision later than the service's last change counts
// only if the registry has its event: otherwise the event was lost, together with the change that the
// caller has seen, when Redis was restored from an older copy or failed over to a replica.
func (h *services) upToDate(ctx context.Context, service string, seen app.Revision) bool {
	if order := seen.Compare(h.replica.ServiceRevision(service)); seen == "" || order <= 0 {
		return seen != "" && order == 0
	}
	_, err := h.history.after(ctx, seen, 1)
	trimmed, ok := errors.AsType[*app.TrimmedError](err)
	return !ok || trimmed.Lost == ""
}
