package diagnose

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"rollcall/app"
)

// Host is the facts about a Host header: the keys that the proxy reads for it, and the list that answers.
type Host struct {
	Header    string       // as the client sends it
	Requested string       // the name that the proxy looks up; the dead set is named after it
	Names     []Name       // in the order of the lookup
	Answer    Answer       // how the lookup ends
	Frontend  app.Frontend // the list that answers; without a host if no list does
}

// Name is one of the vhosts that can answer for a Host header.
type Name struct {
	Host  string
	Key   string // of its list
	Type  string // of the key, in Redis's words; "none" if it does not exist
	Slots int    // backends in the list
	Wins  bool   // its list answers
}

// Answer is the end of the proxy's lookup.
type Answer int

// The answers.
const (
	FromList     Answer = iota // Host.Frontend answers
	FromProxy                  // the proxy answers the name itself
	NoHost                     // the header is empty
	NotFindable                // the proxy can build no key from the header
	NoList                     // no list exists
	KeyIsNotList               // the key of the name itself has another type
)

// Explanation is how the proxy answers a Host header.
type Explanation struct {
	Host
	Status  int    // the status that the proxy answers itself; 0 if it has a backend to ask
	Verdict string // the reason
}

// Explainer explains how the proxy answers a Host header.
type Explainer struct {
	// Proxy reads the keys of the proxy.
	Proxy interface {
		Host(ctx context.Context, header string) (Host, error)
	}
	// Replica supplies the instances.
	Replica interface {
		Instance(id string) (app.Instance, bool)
		Instances(service string) []app.Instance
	}
	// Registry supplies the results that the replica does not have.
	Registry interface {
		Get(ctx context.Context, id string) (app.Instance, error)
	}
}

// Explain explains how the proxy answers a Host header, or the one that a browser sends for a URL. Where no list answers,
// it adds the instances that are registered for the host.
func (x Explainer) Explain(ctx context.Context, header string) (Explanation, error) {
	if _, rest, isURL := strings.Cut(header, "://"); isURL {
		header, _, _ = strings.Cut(rest, "/")
	}
	host, err := x.Proxy.Host(ctx, header)
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{Host: host}
	e.Status, e.Verdict = verdict(host)
	switch {
	case e.Frontend.Host == "":
		e.Verdict += x.registeredFor(ctx, e.Names)
	case e.Status == 0 && !slices.ContainsFunc(e.Frontend.Slots, x.healthy):
		e.Verdict += ", but nothing in it is healthy: what is left stays because there is nothing else"
	}
	return e, nil
}

// healthy reports whether an entry gets requests and its instance, if it has one, is routable.
func (x Explainer) healthy(s app.Slot) bool {
	i, registered := x.Replica.Instance(s.Instance)
	return s.Routed() && (!registered || i.Routable())
}

// maxNamed bounds the instances that a verdict names.
const maxNamed = 5

// registeredFor names the instances that are registered for hosts, with their states.
func (x Explainer) registeredFor(ctx context.Context, names []Name) string {
	var named []string
	for _, i := range x.Replica.Instances("") {
		serves := func(n Name) bool { return slices.Contains(i.Hosts, n.Host) }
		if !slices.ContainsFunc(names, serves) {
			continue
		}
		if len(named) == maxNamed {
			named = append(named, "and others")
			break
		}
		if current, err := x.Registry.Get(ctx, i.ID); err == nil { // with the results that the replica does not have
			i = current
		}
		named = append(named, fmt.Sprintf("%s is %s", i.ID, State(i)))
	}
	if len(named) == 0 {
		return ""
	}
	return "; " + strings.Join(named, ", ")
}

// verdict returns the status that the proxy answers itself, 0 if it has a backend to ask, and the reason.
func verdict(h Host) (status int, reason string) {
	if v, ok := verdicts[h.Answer]; ok {
		return v.status, v.reason
	}
	return listVerdict(h.Frontend.Slots, len(h.Frontend.Unlisted))
}

// verdicts are the verdicts of the answers without a frontend.
var verdicts = map[Answer]struct {
	status int
	reason string
}{
	FromProxy:    {http.StatusOK, "the proxy answers this name by itself"},
	NoHost:       {http.StatusBadRequest, "a request without a Host cannot be routed"},
	NotFindable:  {http.StatusBadRequest, "it is too long, or has a semicolon: no list can be found for it"},
	NoList:       {http.StatusBadRequest, "no frontend serves it: no instance with this vhost has been healthy, or the name is misspelt"},
	KeyIsNotList: {http.StatusBadGateway, "its key is not a list: the reconcile job replaces it if anybody is registered for it"},
}

// listVerdict counts the backends of a list, and the instances of its vhost that are not in the list.
func listVerdict(slots []app.Slot, unlisted int) (status int, reason string) {
	marked, unusable := faultyBackends(slots)
	routed, total := len(slots)-marked-unusable, len(slots)+unlisted
	switch {
	case len(slots) == 0:
		return http.StatusBadGateway, "its list has no backend; the identifier alone keeps wildcards from answering for it"
	case routed == 0:
		return http.StatusBadGateway, fmt.Sprintf("0 of %d backends get requests: %s", total, faults(marked, unusable, unlisted))
	case routed < total:
		return 0, fmt.Sprintf("%d of %d backends get requests: %s", routed, total, faults(marked, unusable, unlisted))
	case total == 1:
		return 0, "its 1 backend gets requests"
	}
	return 0, fmt.Sprintf("all of its %d backends get requests", total)
}

// faultyBackends counts the marked backends, and the unmarked backends with an entry that no proxy can use.
func faultyBackends(slots []app.Slot) (marked, unusable int) {
	for _, s := range slots {
		switch {
		case s.Marked:
			marked++
		case s.Unusable:
			unusable++
		}
	}
	return marked, unusable
}

// faults names the reasons why backends get no requests, with the number of backends of each reason.
func faults(marked, unusable, unlisted int) string {
	var named []string
	for _, f := range []struct {
		count  int
		reason string
	}{{marked, "marked"}, {unusable, "not a usable URL"}, {unlisted, "not in the list"}} {
		if f.count > 0 {
			named = append(named, fmt.Sprintf("%d %s", f.count, f.reason))
		}
	}
	return strings.Join(named, ", ")
}
