package boot

import (
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rollcall/app"
	"rollcall/app/replica"
)

// maxSeries is the number of services, and of vhosts, with series of their own. The series labelled remainder
// are the sums of all others.
const (
	maxSeries = 200
	remainder = "other"
)

// series collects metrics of one dimension of the registry: services or vhosts.
type series struct {
	replica                          *replica.Replica
	names                            func(*replica.Compact) []string // of an instance
	healthy, failing, routable, flip *prometheus.Desc

	mu    sync.Mutex
	flips map[string]int // of the names with series of their own, and of the remainder; at most maxSeries + 1
}

// counts are the instances of one service or vhost.
type counts struct{ healthy, failing, routable int }

func (c *counts) add(o counts) {
	c.healthy, c.failing, c.routable = c.healthy+o.healthy, c.failing+o.failing, c.routable+o.routable
}

// newSeries returns the collector of a dimension, which counts flips from now on.
func newSeries(rep *replica.Replica, dimension string, names func(*replica.Compact) []string) *series {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("rollcall_"+dimension+"_"+name, help, []string{dimension}, nil)
	}
	s := &series{
		replica: rep, names: names, flips: map[string]int{},
		healthy:  desc("healthy", "Healthy instances of a "+dimension+", also in maintenance."),
		failing:  desc("failing", "Unhealthy and failed instances of a "+dimension+" that are not in maintenance."),
		routable: desc("routable", "Instances of a "+dimension+" that get requests: healthy and not in maintenance."),
		flip:     desc("flips_total", "Changes of instances of a "+dimension+" from healthy to unhealthy and back, since this process started."),
	}
	rep.Watch(s.changed)
	return s
}

func servicesOf(h *replica.Compact) []string { return []string{h.Service()} }

// changed counts a flip. The replica calls it with its lock held.
func (s *series) changed(_ string, was, is *replica.Compact) {
	if was == nil || is == nil || !flipped(was.State(), is.State()) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.names(is) {
		s.flips[s.label(name)]++
	}
}

func flipped(was, is app.State) bool {
	return was == app.Healthy && is == app.Unhealthy || was == app.Unhealthy && is == app.Healthy
}

// label returns the label of a name, and gives the name series of its own while there is space.
func (s *series) label(name string) string {
	if name == remainder {
		return remainder
	}
	if _, known := s.flips[name]; known {
		return name
	}
	own := len(s.flips)
	if _, known := s.flips[remainder]; known {
		own--
	}
	if own >= maxSeries {
		return remainder
	}
	s.flips[name] = 0
	return name
}

// Describe implements prometheus.Collector.
func (s *series) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.healthy, s.failing, s.routable, s.flip} {
		to <- d
	}
}

// Collect implements prometheus.Collector. It collects nothing while the replica is out of date.
func (s *series) Collect(to chan<- prometheus.Metric) {
	if _, err := s.replica.Age(time.Now()); err != nil {
		return
	}
	all := map[string]*counts{}
	s.replica.Read(func(instances iter.Seq[*replica.Compact]) {
		for h := range instances {
			for _, name := range s.names(h) {
				if all[name] == nil {
					all[name] = &counts{}
				}
				all[name].add(countsOf(h))
			}
		}
	})
	labelled, flips := s.bounded(all)
	send := func(d *prometheus.Desc, kind prometheus.ValueType, n int, label string) {
		to <- prometheus.MustNewConstMetric(d, kind, float64(n), label)
	}
	for label, c := range labelled {
		send(s.healthy, prometheus.GaugeValue, c.healthy, label)
		send(s.failing, prometheus.GaugeValue, c.failing, label)
		send(s.routable, prometheus.GaugeValue, c.routable, label)
		send(s.flip, prometheus.CounterValue, flips[label], label)
	}
}

// bounded returns the counts and the flips by label. A name without instances has no series, and loses its
// place to the names that have none.
func (s *series) bounded(all map[string]*counts) (labelled map[string]*counts, flips map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(all) >= maxSeries {
		maps.DeleteFunc(s.flips, func(name string, _ int) bool { return all[name] == nil && name != remainder })
	}
	labelled, flips = map[string]*counts{}, map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		label := s.label(name)
		if labelled[label] == nil {
			labelled[label] = &counts{}
		}
		labelled[label].add(*all[name])
		flips[label] = s.flips[label]
	}
	return labelled, flips
}

func countsOf(h *replica.Compact) (c counts) {
	switch {
	case h.State() == app.Healthy:
		c.healthy = 1
	case h.Failing():
		c.failing = 1
	}
	if h.Routable() {
		c.routable = 1
	}
	return c
}
