package boot

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rollcall/app"
	"rollcall/app/replica"
)

// commit applies instances to a replica, each as one event.
func commit(rep *replica.Replica, instances ...app.Instance) {
	for _, i := range instances {
		rep.Apply([]app.Entry{{Event: app.Event{Revision: rep.Revision() + "0", Instance: i.ID}, Instance: i}})
	}
}

func gone(rep *replica.Replica, id string) {
	rep.Apply([]app.Entry{{Event: app.Event{Revision: rep.Revision() + "0", Instance: id}}})
}

// collected returns the series of a registry, one a line, without comments.
func collected(t *testing.T, r *prometheus.Registry) string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			fmt.Fprintf(&b, "%s %s %v\n", strings.TrimPrefix(f.GetName(), "rollcall_"), m.GetLabel()[0].GetValue(), m.GetGauge().GetValue()+m.GetCounter().GetValue())
		}
	}
	return b.String()
}

func current(t *testing.T, instances ...app.Instance) (*replica.Replica, *prometheus.Registry) {
	t.Helper()
	rep, r := replica.New(), prometheus.NewRegistry()
	r.MustRegister(newSeries(rep, "service", servicesOf), newSeries(rep, "vhost", (*replica.Compact).Hosts))
	if got := collected(t, r); got != "" {
		t.Errorf("an outdated replica has series:\n%s", got)
	}
	rep.Reset(instances, "1-")
	rep.SetCurrent(time.Now())
	return rep, r
}

func TestSeriesOfServicesAndVhosts(t *testing.T) {
	t.Parallel()
	i := func(id, service string, s app.State, hosts ...string) app.Instance {
		return app.Instance{ID: id, Service: service, State: s, Hosts: hosts}
	}
	maintained := i("w3", "web", app.Healthy, "a.test")
	maintained.Override.Maintenance = true
	rep, r := current(t, i("w1", "web", app.Healthy, "a.test", "b.test"), i("w2", "web", app.Starting, "a.test"), maintained)
	for _, s := range []app.State{app.Unhealthy, app.Healthy, app.Unhealthy} {
		commit(rep, i("w1", "web", s, "a.test", "b.test"))
	}
	commit(rep, i("w2", "web", app.Healthy, "a.test"), i("d1", "db", app.Failed)) // neither is a flip
	const want = `service_failing db 1
service_failing web 1
service_flips_total db 0
service_flips_total web 3
service_healthy db 0
service_healthy web 2
service_routable db 0
service_routable web 1
vhost_failing a.test 1
vhost_failing b.test 1
vhost_flips_total a.test 3
vhost_flips_total b.test 3
vhost_healthy a.test 2
vhost_healthy b.test 0
vhost_routable a.test 1
vhost_routable b.test 0
`
	if got := collected(t, r); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

// TestSeriesAreBounded has more services than maxSeries, one of them with the name of the remainder.
func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	i := func(n int, s app.State) app.Instance {
		name := fmt.Sprintf("s%03d", n)
		return app.Instance{ID: name, Service: name, State: s}
	}
	instances := []app.Instance{{ID: remainder, Service: remainder, State: app.Healthy}}
	for n := range maxSeries + 2 {
		instances = append(instances, i(n, app.Healthy))
	}
	rep, r := current(t, instances...)
	expect := func(what string, n int, series ...string) {
		t.Helper()
		got := collected(t, r)
		if is := strings.Count(got, "\n"); is != 4*n {
			t.Errorf("%s: %d series, want %d", what, is, 4*n)
		}
		for _, want := range series {
			if !strings.Contains(got, "service_"+want+"\n") {
				t.Errorf("%s: no %q in:\n%s", what, want, got)
			}
		}
	}
	expect("all healthy", maxSeries+1, "healthy other 3", "healthy s000 1", "flips_total other 0")
	commit(rep, i(maxSeries, app.Unhealthy), i(maxSeries+1, app.Unhealthy), i(0, app.Unhealthy))
	expect("three flips", maxSeries+1, "flips_total other 2", "flips_total s000 1", "healthy other 1", "failing other 2")
	gone(rep, "s000")
	expect("a place is free", maxSeries+1, "healthy other 1", "failing other 1", "flips_total other 2", "failing s200 1", "flips_total s200 0")
	gone(rep, "s001")
	gone(rep, "s201")
	expect("few services", maxSeries, "healthy other 1", "flips_total other 2")
}
