// Package traefik writes the vhosts of the registry as a dynamic configuration for the HTTP provider of Traefik
// 2 and 3.
//
// The rules are Traefik's: an empty document removes all routes, an empty map makes Traefik refuse the whole
// document, and a service without servers answers 503.
package traefik

import (
	"encoding/json"
	"iter"
	"regexp"
	"slices"
	"strings"

	"rollcall/app"
)

// Options are part of every router. The zero value is the default of Traefik's entry points, without TLS.
type Options struct {
	EntryPoints  []string // names of Traefik's entry points; empty: the default ones
	TLS          bool     // the routers answer HTTPS only
	CertResolver string   // with TLS: the resolver that gets the certificate; empty: none
}

type document struct {
	HTTP *configuration `json:"http,omitempty"`
}

type configuration struct {
	Routers  map[string]router  `json:"routers"`
	Services map[string]service `json:"services"`
}

type router struct {
	EntryPoints []string `json:"entryPoints,omitempty"`
	Rule        string   `json:"rule"`
	Priority    int      `json:"priority,omitempty"`
	Service     string   `json:"service"`
	TLS         *tls     `json:"tls,omitempty"`
}

type tls struct {
	CertResolver string `json:"certResolver,omitempty"`
}

type service struct {
	LoadBalancer loadBalancer `json:"loadBalancer"`
}

type loadBalancer struct {
	PassHostHeader bool     `json:"passHostHeader"`
	Servers        []server `json:"servers"`
}

type server struct {
	URL    string `json:"url"`
	Weight int    `json:"weight,omitempty"` // empty: 1; Traefik before 3.3 ignores it
}

// Encode returns the configuration of all vhosts as JSON: a router and a service for each vhost, both named like
// the vhost, with the routable instances as servers. A vhost without a routable instance keeps its router. The
// same instances give the same bytes, in any order.
func Encode(instances iter.Seq[app.Instance], o Options) ([]byte, error) {
	vhosts := serversOf(instances)
	if len(vhosts) == 0 {
		return []byte("{}"), nil
	}
	c := configuration{Routers: map[string]router{}, Services: map[string]service{}}
	for host, servers := range vhosts {
		slices.SortFunc(servers, func(a, b server) int { return strings.Compare(a.URL, b.URL) })
		omitEqualWeights(servers)
		c.Services[host] = service{loadBalancer{PassHostHeader: true, Servers: servers}}
		c.Routers[host] = newRouter(host, o)
	}
	return json.Marshal(document{&c})
}

// serversOf returns the servers of each vhost. A vhost without a routable instance has an empty slice, because Traefik
// refuses null.
func serversOf(instances iter.Seq[app.Instance]) map[string][]server {
	vhosts := map[string][]server{}
	for i := range instances {
		for _, host := range i.Hosts {
			servers := vhosts[host]
			if servers == nil {
				servers = []server{}
			}
			if i.Routable() {
				servers = append(servers, server{URL: i.URL(), Weight: i.Slots()})
			}
			vhosts[host] = servers
		}
	}
	return vhosts
}

// omitEqualWeights leaves out the weights when all are 1.
func omitEqualWeights(servers []server) {
	if slices.ContainsFunc(servers, func(s server) bool { return s.Weight != 1 }) {
		return
	}
	for n := range servers {
		servers[n].Weight = 0
	}
}

// newRouter returns the router of a vhost. A wildcard spans any number of labels. Its priority grows with its
// labels and stays below an exact vhost's, which is the length of the rule.
func newRouter(host string, o Options) router {
	r := router{EntryPoints: o.EntryPoints, Service: host}
	switch suffix, wildcard := strings.CutPrefix(host, "*."); {
	case host == "*":
		r.Rule, r.Priority = "PathPrefix(`/`)", 1
	case wildcard:
		r.Rule, r.Priority = "HostRegexp(`^.+\\."+regexp.QuoteMeta(suffix)+"$`)", 2+strings.Count(suffix, ".")
	default:
		r.Rule = "Host(`" + host + "`)"
	}
	if o.TLS {
		r.TLS = &tls{o.CertResolver}
	}
	return r
}
