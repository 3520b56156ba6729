package redisstore_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"rollcall/app"
	"rollcall/app/redisstore/storetest"
	"rollcall/hipache"
	"rollcall/tests/harness"
)

// The model of a vhost's list. A slot carries its mark, so no mark must be translated when a slot is removed.
type modelVhost struct {
	wildcard bool
	exists   bool // has a list
	slots    []*modelSlot
	members  map[string]*modelMember // by url
	junk     bool                    // the dead set has members that are no positions
}

type modelSlot struct {
	url    string
	marked bool
	ours   bool // Rollcall set the mark
}

type modelMember struct {
	id    string // empty: no longer registered
	n     int
	keep  int
	leave int64 // ms
	fewer bool  // its number of slots has just become smaller
}

// begins reports whether the member's surplus slots begin to leave.
func (m *modelMember) begins() bool { return m.leave == 0 || m.fewer }

// modelChange is the effect of a change of an instance on a vhost.
type modelChange struct {
	url  string
	to   modelMember
	good bool // it has just passed a check
}

// follow updates the list from the members. settled means that the owner removes settled backends.
func (v *modelVhost) follow(now time.Time, settled bool, changes ...modelChange) {
	v.junk = false
	good := map[string]bool{}
	for _, c := range changes {
		to := c.to
		if was := v.members[c.url]; was != nil {
			to.leave, to.fewer = was.leave, to.n < was.n
		}
		v.members[c.url] = &to
		good[c.url] = good[c.url] || c.good
	}
	registered := slices.ContainsFunc(slices.Collect(maps.Values(v.members)), func(m *modelMember) bool { return m.id != "" })
	foreign := slices.ContainsFunc(v.slots, func(s *modelSlot) bool { return v.members[s.url] == nil })
	if !registered && !foreign {
		*v = modelVhost{wildcard: v.wildcard, members: map[string]*modelMember{}}
		return
	}

	surplus, routed := v.surplus(), false
	for _, s := range v.slots {
		if m := v.members[s.url]; m != nil && !surplus[s] && (m.leave > 0 || good[s.url]) {
			s.marked, s.ours = false, false
		}
		routed = routed || !surplus[s] && !s.marked && s.url != "junk"
	}
	for _, url := range slices.Sorted(maps.Keys(v.members)) {
		for have := v.count(url); have < v.members[url].n; have++ {
			v.slots = append(v.slots, &modelSlot{url: url})
			v.exists, routed = true, true
		}
	}
	stays := ""
	if !routed {
		if stays = v.stays(surplus); stays == "" {
			stays = v.comesBack()
		}
		for _, s := range v.slots { // each wanted slot is marked
			if s.url == stays || stays == "" && v.members[s.url] != nil && !surplus[s] {
				s.marked, s.ours = false, false
			}
		}
	}

	leaving := map[string]bool{}
	v.slots = slices.DeleteFunc(v.slots, func(s *modelSlot) bool {
		m := v.members[s.url]
		if !surplus[s] {
			return false
		}
		if s.url == stays {
			return false
		}
		if m.begins() {
			m.leave, m.fewer = now.Add(storetest.Settle).UnixMilli(), false
		}
		if v.wildcard || settled && m.leave <= now.UnixMilli() {
			return true
		}
		leaving[s.url] = true
		if !s.marked {
			s.marked, s.ours = true, true
		}
		return false
	})
	for url, m := range v.members {
		if m.fewer = false; !leaving[url] {
			m.leave = 0
		}
		if m.id == "" && !leaving[url] {
			delete(v.members, url)
		}
	}
}

// surplus returns the slots beyond the wanted number of their member.
func (v *modelVhost) surplus() map[*modelSlot]bool {
	surplus, seen := map[*modelSlot]bool{}, map[string]int{}
	for _, s := range v.slots {
		seen[s.url]++
		m := v.members[s.url]
		surplus[s] = m != nil && seen[s.url] > m.n
	}
	return surplus
}

// stays returns the member that stays because no other backend is routable. It prefers a member without a proxy's mark.
func (v *modelVhost) stays(surplus map[*modelSlot]bool) string {
	may := func(s *modelSlot) bool {
		m := v.members[s.url]
		return surplus[s] && m.keep > 0 && m.begins()
	}
	if n := slices.IndexFunc(v.slots, func(s *modelSlot) bool { return may(s) && !s.marked }); n >= 0 {
		return v.slots[n].url
	}
	if n := slices.IndexFunc(v.slots, may); n >= 0 {
		return v.slots[n].url
	}
	return ""
}

// comesBack returns the member that is listed again if no member is wanted or stays.
func (v *modelVhost) comesBack() string {
	var urls []string
	for url, m := range v.members {
		if m.n > 0 {
			return ""
		}
		if m.keep == 2 {
			urls = append(urls, url)
		}
	}
	if len(urls) == 0 {
		return ""
	}
	for _, s := range v.slots {
		if slices.Contains(urls, s.url) {
			return s.url
		}
	}
	url := slices.Min(urls)
	v.slots, v.exists = append(v.slots, &modelSlot{url: url}), true
	return url
}

func (v *modelVhost) count(url string) (n int) {
	for _, s := range v.slots {
		if s.url == url {
			n++
		}
	}
	return n
}

func (v *modelVhost) anyMarked(url string) bool {
	return slices.ContainsFunc(v.slots, func(s *modelSlot) bool { return s.marked && s.url == url })
}

func (v *modelVhost) due() (at int64) {
	for _, m := range v.members {
		if m.leave > 0 && (at == 0 || m.leave < at) {
			at = m.leave
		}
	}
	return at
}

// modelRun is a registry and its model, which take the same steps.
type modelRun struct {
	*site
	ctx       context.Context
	vhosts    map[string]*modelVhost
	instances map[string]app.Instance // as they were committed
	foreign   map[string][]string     // entries that operators pushed, by vhost
}

func TestListsMatchAModel(t *testing.T) {
	t.Parallel()
	rdb := harness.SharedRedis(t)
	rapid.Check(t, func(rt *rapid.T) {
		r := &modelRun{
			site: prefixedSite(rdb, harness.Prefix(t)), ctx: t.Context(),
			vhosts: map[string]*modelVhost{}, instances: map[string]app.Instance{}, foreign: map[string][]string{},
		}
		for _, host := range []string{"a.test", "b.test", "*.w.test"} {
			r.vhosts[host] = &modelVhost{wildcard: hipache.Wildcard(host), members: map[string]*modelMember{}}
		}
		steps := map[string]func(*rapid.T){
			"register": r.register, "pass": r.observe(true), "fail": r.observe(false), "reweigh": r.reweigh,
			"good probe": r.goodProbe, "drain": r.drain, "leave": r.leave,
			"a proxy marks": r.proxyMarks, "a mark expires": r.markExpires, "junk marks": r.junkMarks, "push": r.push,
			"time passes": r.timePasses, "compact": r.compact, "reconcile": r.reconcile,
			"": r.check,
		}
		rt.Repeat(steps)
	})
}

func (r *modelRun) hosts() []string { return slices.Sorted(maps.Keys(r.vhosts)) }

// some draws an instance that is registered, or skips the step.
func (r *modelRun) some(t *rapid.T) app.Instance {
	ids := slices.Sorted(maps.Keys(r.instances))
	if len(ids) == 0 {
		t.Skip("nobody is registered")
	}
	return r.instances[rapid.SampledFrom(ids).Draw(t, "id")]
}

// commit writes instances to the registry and the model.
func (r *modelRun) commit(t *rapid.T, is ...app.Instance) {
	var change app.Change
	touched := map[string][]modelChange{}
	for _, i := range is {
		was := r.instances[i.ID]
		change.Steps = append(change.Steps, app.Step{Was: was, Is: i})
		for _, host := range was.Hosts {
			touched[host] = append(touched[host], modelChange{url: was.URL()})
		}
		delete(r.instances, i.ID)
		if i.State == app.Gone {
			continue
		}
		good := i.Last.Passed && i.Last != was.Last
		for _, host := range i.Hosts {
			to := modelMember{id: i.ID, n: i.Slots(), keep: keepOf(i)}
			touched[host] = append(touched[host], modelChange{url: i.URL(), to: to, good: good})
		}
		r.instances[i.ID] = i
	}
	if _, err := r.Commit(r.ctx, change); err != nil {
		t.Fatalf("commit %+v: %v", is, err)
	}
	for _, step := range change.Steps {
		if i, there := r.instances[step.Is.ID]; there {
			i.Rev = step.Is.Rev
			r.instances[i.ID] = i
		}
	}
	for host, changes := range touched {
		last := map[string]modelChange{} // only the last change of a url counts
		for _, c := range changes {
			c.good = c.good || last[c.url].good
			last[c.url] = c
		}
		r.vhosts[host].follow(r.clock.Now(), false, slices.Collect(maps.Values(last))...)
	}
}

// keepOf returns the stored stay of an instance that is not wanted.
func keepOf(i app.Instance) int {
	switch {
	case !i.MayStay():
		return 0
	case i.State == app.Draining:
		return 1
	}
	return 2
}

// register registers a new instance, or a known one with another address, boot or vhosts. The instance may supersede
// another one at its address.
func (r *modelRun) register(t *rapid.T) {
	n := rapid.IntRange(1, 5).Draw(t, "n")
	i := app.Instance{
		ID: fmt.Sprintf("i%d", n), Service: "web", Check: app.DefaultCheck(app.TCP), RegisteredAt: r.clock.Now(),
		Address:  fmt.Sprintf("10.0.0.%d:80", rapid.IntRange(1, 6).Draw(t, "address")),
		Weight:   rapid.IntRange(1, 3).Draw(t, "weight"),
		FailOpen: rapid.IntRange(0, 4).Draw(t, "fail open") > 0,
	}
	for _, host := range r.hosts() {
		if rapid.IntRange(0, 3).Draw(t, host) > 0 {
			i.Hosts = append(i.Hosts, host)
		}
	}
	if rapid.Bool().Draw(t, "unchecked") {
		i.Check = app.DefaultCheck(app.None)
	}
	i = i.Begin(r.clock.Now())
	steps := []app.Instance{}
	for _, other := range r.instances {
		if other.Address == i.Address && other.ID != i.ID {
			steps = append(steps, other.Remove(r.clock.Now()))
		}
	}
	r.commit(t, append(steps, i)...)
}

func (r *modelRun) observe(passed bool) func(*rapid.T) {
	return func(t *rapid.T) {
		i := r.some(t)
		r.clock.Pass(time.Millisecond) // no two results are the same
		for range rapid.IntRange(1, 2).Draw(t, "times") {
			i = i.Observe(app.Result{At: r.clock.Now(), Passed: passed, Code: app.Code(204)}, r.clock.Now())
		}
		r.commit(t, i)
	}
}

func (r *modelRun) reweigh(t *rapid.T) {
	i := r.some(t)
	i.Weight = rapid.IntRange(1, 3).Draw(t, "weight")
	r.commit(t, i)
}

func (r *modelRun) drain(t *rapid.T) { r.commit(t, r.some(t).Drain(time.Minute, r.clock.Now())) }
func (r *modelRun) leave(t *rapid.T) { r.commit(t, r.some(t).Remove(r.clock.Now())) }

// goodProbe completes a check of a routable instance, which only clears marks.
func (r *modelRun) goodProbe(t *rapid.T) {
	i := r.some(t)
	if !i.Routable() {
		t.Skip("not routable")
	}
	if err := r.Passed(r.ctx, i, app.Fence{}); err != nil {
		t.Fatal(err)
	}
	for _, host := range i.Hosts {
		v := r.vhosts[host]
		if m := v.members[i.URL()]; !v.wildcard && v.anyMarked(i.URL()) {
			v.follow(r.clock.Now(), false, modelChange{url: i.URL(), to: *m, good: true})
		}
	}
}

func (r *modelRun) slot(t *rapid.T, which func(*modelSlot) bool) (host string, n int) {
	type at struct {
		host string
		n    int
	}
	var all []at
	for _, host := range r.hosts() {
		for n, s := range r.vhosts[host].slots {
			if !r.vhosts[host].wildcard && which(s) {
				all = append(all, at{host, n})
			}
		}
	}
	if len(all) == 0 {
		t.Skip("no such slot")
	}
	slot := rapid.SampledFrom(all).Draw(t, "slot")
	return slot.host, slot.n
}

func (r *modelRun) proxyMarks(t *rapid.T) {
	host, n := r.slot(t, func(s *modelSlot) bool { return !s.marked })
	r.redis(t, r.rdb.SAdd(r.ctx, r.proxy.Dead(host), n))
	r.redis(t, r.rdb.Expire(r.ctx, r.proxy.Dead(host), hipache.PassiveTTL))
	r.vhosts[host].slots[n].marked = true
}

// markExpires removes a mark, as PlanB's active checker or an operator does.
func (r *modelRun) markExpires(t *rapid.T) {
	host, n := r.slot(t, func(s *modelSlot) bool { return s.marked })
	r.redis(t, r.rdb.SRem(r.ctx, r.proxy.Dead(host), n))
	s := r.vhosts[host].slots[n]
	s.marked, s.ours = false, false
}

func (r *modelRun) junkMarks(t *rapid.T) {
	host, _ := r.slot(t, func(s *modelSlot) bool { return s.marked }) // otherwise the set would have no valid mark
	r.vhosts[host].junk = true
	r.redis(t, r.rdb.SAdd(r.ctx, r.proxy.Dead(host), "junk", "-1", "999"))
}

// push appends an entry as an operator does.
func (r *modelRun) push(t *rapid.T) {
	host := rapid.SampledFrom(r.hosts()).Draw(t, "host")
	v := r.vhosts[host]
	if !v.exists {
		t.Skip("no list")
	}
	url := rapid.SampledFrom([]string{"http://x:1", "http://y:2/", "junk"}).Draw(t, "url")
	r.redis(t, r.rdb.RPush(r.ctx, r.proxy.Frontend(host), url))
	v.slots = append(v.slots, &modelSlot{url: url})
	r.foreign[host] = append(r.foreign[host], url)
}

func (r *modelRun) timePasses(t *rapid.T) {
	r.clock.Pass(time.Duration(rapid.SampledFrom([]int{1, 2000, 4999, 5000, 60_000}).Draw(t, "ms")) * time.Millisecond)
}

func (r *modelRun) compact(t *rapid.T) {
	if _, err := storetest.RemoveSettled(r.ctx, r.site.vhosts, r.clock.Now()); err != nil {
		t.Fatal(err)
	}
	for _, v := range r.vhosts {
		if at := v.due(); at > 0 && at <= r.clock.Now().UnixMilli() {
			v.follow(r.clock.Now(), true)
		}
	}
}

func (r *modelRun) reconcile(t *rapid.T) {
	repairs, err := r.Reconcile(r.ctx, app.Everything)
	if err != nil || len(repairs.WrongType)+len(repairs.Instances)+len(repairs.Orphans) > 0 {
		t.Fatalf("repaired %+v, %v", repairs, err)
	}
	for _, v := range r.vhosts {
		if slices.ContainsFunc(slices.Collect(maps.Values(v.members)), func(m *modelMember) bool { return m.id != "" }) {
			v.follow(r.clock.Now(), false)
		}
	}
}

func (r *modelRun) redis(t *rapid.T, cmd redis.Cmder) {
	if err := cmd.Err(); err != nil {
		t.Fatal(err)
	}
}

// check compares all stored data with the model, and the model with its invariants.
func (r *modelRun) check(t *rapid.T) {
	want, got := r.modelled(), r.stored(t)
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("stored is not what the model says (-model +stored):\n%s", diff)
	}
	for host, v := range r.vhosts {
		r.checkInvariants(t, host, v)
	}
}

func (r *modelRun) checkInvariants(t *rapid.T, host string, v *modelVhost) {
	var foreign []string
	surplus, routable, oursOnly := v.surplus(), false, len(v.slots) > 0
	for _, s := range v.slots {
		m := v.members[s.url]
		if m == nil {
			foreign = append(foreign, s.url)
		}
		if s.ours && m != nil && !surplus[s] && m.id != "" {
			t.Errorf("%s: a slot of %s is wanted and marked by us", host, s.url)
		}
		oursOnly = oursOnly && s.ours
	}
	for url, m := range v.members {
		if m.n > 0 {
			routable = true
			if v.count(url) < m.n {
				t.Errorf("%s: %s has %d slots, want %d", host, url, v.count(url), m.n)
			}
		}
	}
	for url, m := range v.members {
		if m.keep == 2 && v.exists && (oursOnly || len(v.slots) == 0) {
			t.Errorf("%s: %s could be listed, and nothing else is", host, url)
		}
	}
	if routable && (oursOnly || !v.exists) {
		t.Errorf("%s: there is somebody to route to, and all slots are marked by us", host)
	}
	if !slices.Equal(foreign, r.foreign[host]) {
		t.Errorf("%s: foreign entries are %q, want %q", host, foreign, r.foreign[host])
	}
	if v.due() == 0 && slices.ContainsFunc(v.slots, func(s *modelSlot) bool { return s.ours && surplus[s] }) &&
		!slices.ContainsFunc(v.slots, func(s *modelSlot) bool { return !s.marked }) {
		t.Errorf("%s: a slot of ours is marked for ever", host)
	}
}

// registryState is the content of the registry's and the proxy's keys.
type registryState struct {
	Lists, Dead, Members map[string][]string
	Vhosts, Addresses    map[string]string
	Services             []string
	Settling             map[string]int64
	Instances            map[string]app.Instance
}

func (r *modelRun) modelled() registryState {
	s := registryState{
		Lists: map[string][]string{}, Dead: map[string][]string{}, Members: map[string][]string{},
		Vhosts: map[string]string{}, Addresses: map[string]string{},
		Settling: map[string]int64{}, Instances: maps.Clone(r.instances),
	}
	for host, v := range r.vhosts {
		var list, dead, members []string
		if v.exists {
			list = []string{"web"}
		}
		for n, slot := range v.slots {
			list = append(list, slot.url)
			if slot.marked {
				dead = append(dead, strconv.Itoa(n))
			}
		}
		for url, m := range v.members {
			if m.id != "" {
				s.Vhosts[host] = "web"
			}
			members = append(members, fmt.Sprintf("%s %d %d %d %s", url, m.n, m.keep, m.leave, m.id))
		}
		slices.Sort(dead)
		slices.Sort(members)
		s.Lists[host], s.Dead[host], s.Members[host] = list, dead, members
		if at := v.due(); at > 0 {
			s.Settling[host] = at
		}
	}
	for id, i := range s.Instances {
		s.Addresses[i.Address], s.Services = id, []string{"web"}
	}
	return s
}

func (r *modelRun) stored(t *rapid.T) registryState {
	s := registryState{
		Lists: map[string][]string{}, Dead: map[string][]string{}, Members: map[string][]string{}, Instances: map[string]app.Instance{},
	}
	members := map[string]*redis.MapStringStringCmd{}
	lists, dead := map[string]*redis.StringSliceCmd{}, map[string]*redis.StringSliceCmd{}
	var vhosts, addresses *redis.MapStringStringCmd
	var services *redis.StringSliceCmd
	var settling *redis.ZSliceCmd
	_, err := r.rdb.Pipelined(r.ctx, func(p redis.Pipeliner) error {
		for host := range r.vhosts {
			lists[host] = p.LRange(r.ctx, r.proxy.Frontend(host), 0, -1)
			dead[host] = p.SMembers(r.ctx, r.proxy.Dead(host))
			members[host] = p.HGetAll(r.ctx, r.prefix+"vhost:"+host)
		}
		vhosts, addresses = p.HGetAll(r.ctx, r.prefix+"hosts"), p.HGetAll(r.ctx, r.prefix+"addresses")
		services = p.SMembers(r.ctx, r.prefix+"services")
		settling = p.ZRangeWithScores(r.ctx, r.prefix+"settling", 0, -1)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for host := range r.vhosts {
		s.Lists[host] = lists[host].Val()
		marks := slices.DeleteFunc(dead[host].Val(), func(m string) bool { return slices.Contains([]string{"junk", "-1", "999"}, m) })
		slices.Sort(marks)
		s.Dead[host], s.Members[host] = marks, nil
		for url, m := range members[host].Val() {
			s.Members[host] = append(s.Members[host], url+" "+m)
		}
		slices.Sort(s.Members[host])
	}
	s.Vhosts, s.Addresses, s.Services = vhosts.Val(), addresses.Val(), services.Val()
	s.Settling = scores(settling.Val())
	instances, err := r.All(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range instances {
		s.Instances[i.ID] = i
	}
	return s
}

func scores(zs []redis.Z) map[string]int64 {
	out := map[string]int64{}
	for _, z := range zs {
		out[fmt.Sprint(z.Member)] = cmp.Or(int64(z.Score), -1)
	}
	return out
}
