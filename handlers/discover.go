package handlers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/replica"
	"rollcall/handlers/input"
)

// awaitChange waits while a caller that has seen a revision of a service is up to date, but no
// longer than wait. It returns an error only if the caller is gone.
func (a *API) awaitChange(ctx context.Context, service string, seen app.Revision, wait time.Duration) error {
	resets := a.Replica.Resets()
	if wait == 0 || !a.upToDate(ctx, service, seen) {
		return nil
	}
	serving, cancel := a.whileServing(ctx)
	defer cancel()
	serving, cancel = context.WithTimeout(serving, wait)
	defer cancel()
	_ = a.Replica.Wait(serving, func() bool { // over is over
		if a.Replica.Resets() != resets {
			return true // Redis may have been emptied or restored
		}
		newer := a.Replica.ServiceRevision(service).Compare(seen)
		return newer > 0 || newer == 0 && a.Replica.Service(service) == nil // nobody has seen one that is not there
	})
	return ctx.Err()
}

// whileServing returns a context that is over when another one is, or when the process
// is about to end: what may take for ever must not hold that up.
func (a *API) whileServing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if a.Serving == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(a.Serving, cancel)
	return ctx, func() { stop(); cancel() }
}

func etag(r app.Revision) string { return `"` + string(r) + `"` }

// entityTag matches one tag of ours in an If-None-Match list (RFC 9110, 13.1.2), weak or
// not. Proxies that compress answers add to the tag, inside the quotes: Apache "-gzip",
// Jetty "--gzip".
var entityTag = regexp.MustCompile(`^(?:W/)?"?([0-9]+-[0-9]+)(?:[-;:+._][^"]*)?"?$`)

// seenRevision returns the newest revision of a service that the caller has seen, by
// If-None-Match; "" when it has seen none. "*" stands for the present one. Revisions have an
// order, so a tag of one process serves the next call to another process, whose replica
// may have begun later or be a moment behind.
func (a *API) seenRevision(r *http.Request, service string) (seen app.Revision) {
	for tag := range strings.SplitSeq(strings.Join(r.Header.Values("If-None-Match"), ","), ",") {
		var rev app.Revision
		switch tag = strings.Trim(tag, " \t"); {
		case tag == "*" && a.Replica.Service(service) != nil:
			rev = a.Replica.ServiceRevision(service)
		default:
			if m := entityTag.FindStringSubmatch(tag); m != nil {
				rev = app.Revision(m[1])
			}
		}
		if rev.Valid() && (seen == "" || rev.Compare(seen) > 0) {
			seen = rev
		}
	}
	return seen
}

// upToDate reports whether a caller that has seen a revision has seen the last change of a
// service. A revision is an event's id. One that is later than the service's last change counts
// only if the registry has its event: otherwise the event was lost, with the change that the
// caller has seen, when Redis was restored from an older copy or failed over to a replica.
func (a *API) upToDate(ctx context.Context, service string, seen app.Revision) bool {
	if order := seen.Compare(a.Replica.ServiceRevision(service)); seen == "" || order <= 0 {
		return seen != "" && order == 0
	}
	_, err := a.eventsAfter(ctx, seen, 1)
	trimmed, ok := errors.AsType[*app.TrimmedError](err)
	return !ok || trimmed.Lost == ""
}

// serviceOf returns a service, if it has instances.
func (a *API) serviceOf(name string) (*replica.Service, error) {
	if _, err := a.age(); err != nil {
		return nil, err
	}
	service := a.Replica.Service(name)
	if service == nil {
		return nil, fmt.Errorf("service %s: %w", input.Quote(name), app.ErrNotFound)
	}
	return service, nil
}

// healthyOf returns the instances of a service that others may use; they are not to be
// written to.
func (a *API) healthyOf(name string) ([]app.Instance, error) {
	service, err := a.serviceOf(name)
	if err != nil {
		return nil, err
	}
	if len(service.Routable) == 0 {
		return nil, fmt.Errorf("service %s: %w", input.Quote(name), errNoneHealthy)
	}
	return service.Routable, nil
}

// pick answers with one healthy address: a random one, the next one (?by=rr), or the
// same one for the same key as long as it is there (?by=hash&key=).
func (a *API) pick(c echo.Context) error {
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
	healthy, err := a.healthyOf(name)
	if err != nil {
		return err
	}
	i := random(healthy)
	switch query.By {
	case "rr":
		n, _ := a.turns.LoadOrStore(name, new(atomic.Uint64))
		turn := n.(*atomic.Uint64).Add(1) //nolint:forcetypeassert // nothing else is stored
		i = healthy[(turn-1)%uint64(len(healthy))]
	case "hash":
		i = byKey(healthy, query.Key)
	}
	if strings.Contains(c.Request().Header.Get(echo.HeaderAccept), echo.MIMEApplicationJSON) {
		return c.JSON(http.StatusOK, instanceOf(i))
	}
	return c.String(http.StatusOK, i.Address+"\n")
}

// random picks by weight.
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

// byKey picks by weighted rendezvous hashing: when an instance comes or goes, only
// the keys that it wins or had move.
func byKey(from []app.Instance, key string) app.Instance {
	score := func(i app.Instance) float64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(i.ID + "\x00" + key))
		x := h.Sum64() // FNV spreads its last bytes badly: mix
		x ^= x >> 33
		x *= 0xff51afd7ed558ccd
		x ^= x >> 33
		x *= 0xc4ceb9fe1a85ec53
		x ^= x >> 33
		return -float64(i.Slots()) / math.Log((float64(x>>11)+0.5)/(1<<53))
	}
	return slices.MaxFunc(from, func(a, b app.Instance) int {
		switch sa, sb := score(a), score(b); {
		case sa < sb:
			return -1
		case sa > sb:
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
}

// prometheus answers Prometheus's http_sd: the healthy instances, or those
// in the ?state=, one target group each.
func (a *API) prometheus(c echo.Context) error {
	query := struct {
		Service string `field:"service"`
		State   string `field:"state" validate:"oneof=starting healthy unhealthy failed draining any"`
	}{State: string(app.Healthy)}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	if _, err := a.age(); err != nil {
		return err
	}
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	groups := []group{}
	for _, i := range a.Replica.Instances(query.Service) {
		if !selected(i, query.State) {
			continue
		}
		labels := map[string]string{
			"__meta_rollcall_service": i.Service, "__meta_rollcall_instance": i.ID, "__meta_rollcall_state": string(i.State),
			"__meta_rollcall_vhosts": joined(i.Hosts), "__meta_rollcall_tags": joined(i.Tags),
		}
		for _, name := range slices.Sorted(maps.Keys(i.Meta)) { // two names may become one label: always the same one wins
			labels["__meta_rollcall_meta_"+strings.Map(labelRune, name)] = i.Meta[name]
		}
		groups = append(groups, group{Targets: []string{i.Address}, Labels: labels})
	}
	return c.JSON(http.StatusOK, groups)
}

// joined puts the separator around every item, so that a relabelling rule can match
// one item: .*,shop\.example\.com,.*
func joined(items []string) string {
	if len(items) == 0 {
		return ""
	}
	return "," + strings.Join(items, ",") + ","
}

func labelRune(r rune) rune {
	if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') {
		return r
	}
	return '_'
}

// tlsAsk answers the question whether to get a certificate for a name, which Caddy
// asks as ?domain= and kamal-proxy as ?host=: 200 when a healthy instance serves it.
// The catch-all vhost does not count: it would have certificates made for any name
// that strangers point here.
func (a *API) tlsAsk(c echo.Context) error {
	var query struct {
		Domain string `field:"domain"`
		Host   string `field:"host"`
	}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	if _, err := a.age(); err != nil {
		return err
	}
	given := cmp.Or(query.Domain, query.Host)
	domain, err := app.NormalizeHost(given)
	if err != nil || net.ParseIP(domain) != nil || strings.HasPrefix(domain, "*") {
		return &app.FieldError{Field: "domain", Problem: "is " + input.Quote(given), Want: "give a name such as shop.example.com"}
	}
	for i := range a.Replica.All() {
		if i.Routable() && slices.ContainsFunc(i.Hosts, func(h string) bool { return covers(h, domain) }) {
			return c.String(http.StatusOK, "ok\n")
		}
	}
	return fmt.Errorf("no healthy instance serves %s: %w", domain, app.ErrNotFound)
}

func covers(vhost, domain string) bool {
	suffix, wildcard := strings.CutPrefix(vhost, "*.")
	return vhost == domain || wildcard && strings.HasSuffix(domain, "."+suffix)
}
