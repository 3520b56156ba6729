package redisstore_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rollcall/app"
	"rollcall/app/registry"
)

func (s *site) export(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	n, err := s.Export(t.Context(), &out, true)
	if err != nil || n != strings.Count(out.String(), "\n") {
		t.Fatalf("%d instances in %q, %v", n, out.String(), err)
	}
	return out.String()
}

// taken returns a site that has imported an export.
func taken(t *testing.T, text string, want int) *site {
	t.Helper()
	s := newSite(t)
	added, read, err := s.Import(t.Context(), strings.NewReader(text), s.verbs.Import)
	if err != nil || added != want || read != want {
		t.Fatalf("%d of %d instances added, %v; want %d", added, read, err, want)
	}
	return s
}

// everything registers all kinds of instances, in lists that are not in the order of their ids.
func everything(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	s.up(t, 5, hosts("b.test"))
	s.up(t, 4, hosts("a.test", "b.test"), weight(3))
	s.up(t, 3, hosts("a.test", "c.test"))
	s.up(t, 2, hosts("c.test", "*.c.test"), func(r *app.Registration) {
		r.Health, r.Expect, r.Boot, r.Tags = ":8081/healthz?full=1", []string{"200-204", "fine"}, "b1", []string{"blue"}
		r.HealthHost, r.HealthHeader = "health.test:81", []string{"Authorization: Bearer t0ken"}
		r.Meta, r.FailOpen = map[string]string{"owner": "somebody"}, new(false)
		r.Interval, r.Forget = new(7*time.Second), new(time.Hour)
	})
	s.up(t, 1, hosts("a.test"), func(r *app.Registration) {
		r.Health, r.TLSSkipVerify, r.TLSServerName = "https:8443/healthz", new(true), "cert.test"
	})
	s.check(t, "i1", "--")
	s.register(t, saying(6, hosts("a.test"), func(r *app.Registration) { r.Health = "grpcs:/orders" }))
	s.register(t, saying(7, hosts("a.test"), func(r *app.Registration) { r.Service, r.Hosts, r.Health = "beats", nil, "heartbeat" }))
	if err := s.verbs.Report(t.Context(), "i7", true, ""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.verbs.Override(t.Context(), "i2", app.Override{Weight: 2, Until: s.clock.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	s.up(t, 8, hosts("last.test"), func(r *app.Registration) { r.Service = "last" })
	s.check(t, "i8", "--") // and stays as the last one
	s.register(t, saying(9, hosts("last.test"), func(r *app.Registration) { r.Service = "last" }))
	s.settle(t)
	return s
}

func TestImportGivesTheSameRegistryAndLists(t *testing.T) {
	t.Parallel()
	from := everything(t)
	text := from.export(t)
	var shown strings.Builder
	if _, err := from.Export(t.Context(), &shown, false); err != nil || strings.Contains(shown.String(), "t0ken") || !strings.Contains(text, "t0ken") {
		t.Errorf("without secrets the export is, %v:\n%s\nand with secrets:\n%s", err, shown.String(), text)
	}
	to := taken(t, text, 9)
	if got := to.export(t); got != text {
		t.Errorf("exported again (-want +got):\n%s", cmp.Diff(text, got))
	}
	to.settle(t)
	for _, host := range []string{"a.test", "b.test", "c.test", "*.c.test", "last.test"} {
		to.wantList(t, host, from.list(t, host))
	}
	want, err1 := from.All(t.Context())
	got, err2 := to.All(t.Context())
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	byID := cmpopts.SortSlices(func(a, b app.Instance) bool { return a.ID < b.ID })
	if diff := cmp.Diff(want, got, byID, cmpopts.IgnoreFields(app.Instance{}, "Rev")); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
	repairs, err := to.Reconcile(t.Context(), app.Everything)
	if err != nil || !repairs.None() {
		t.Errorf("to be repaired: %+v, %v", repairs, err)
	}
}

func TestASecondImportHasNoEffect(t *testing.T) {
	t.Parallel()
	text := everything(t).export(t)
	to := taken(t, text, 9)
	dump := func() map[string]string {
		all := map[string]string{}
		keys, err := to.rdb.Keys(t.Context(), to.prefix+"*").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			all[key] = to.rdb.Dump(t.Context(), key).Val()
		}
		return all
	}
	before := dump()
	if added, read, err := to.Import(t.Context(), strings.NewReader(text), to.verbs.Import); added != 0 || read != 9 || err != nil {
		t.Errorf("%d of %d instances added, %v", added, read, err)
	}
	if diff := cmp.Diff(before, dump()); diff != "" {
		t.Errorf("what is stored (-before +after):\n%s", diff)
	}
}

// An import skips instances whose id or address has been registered meanwhile.
func TestImportLeavesRegisteredInstancesAlone(t *testing.T) {
	t.Parallel()
	text := everything(t).export(t)
	to := newSite(t)
	to.up(t, 3, hosts("a.test"), weight(2))
	to.register(t, saying(4, func(r *app.Registration) { r.ID = "another" })) // at the address of i4
	before := to.get(t, "i3")
	added, read, err := to.Import(t.Context(), strings.NewReader(text), to.verbs.Import)
	if added != 7 || read != 9 || err != nil {
		t.Errorf("%d of %d instances added, %v; want 7 of 9", added, read, err)
	}
	if diff := cmp.Diff(before, to.get(t, "i3")); diff != "" {
		t.Errorf("the one that was there (-before +after):\n%s", diff)
	}
	if _, err := to.Get(t.Context(), "i4"); err == nil {
		t.Error("i4 was imported, and another instance has its address")
	}
}

func TestImportOfABrokenLine(t *testing.T) {
	t.Parallel()
	from := newSite(t)
	for n := range 4 {
		from.up(t, n+1)
	}
	good := strings.SplitAfter(from.export(t), "\n")[:4]
	other := strings.Replace(good[2], `"service":"web"`, `"service":"other"`, 1)
	for name, broken := range map[string]string{
		"cut off":            good[2][:40] + "\n",
		"not JSON":           "hello\n",
		"another object":     `{"id":"x"}` + "\n",
		"two objects":        strings.TrimSuffix(good[2], "\n") + "{}\n",
		"unknown field":      strings.Replace(good[2], `"state"`, `"mood"`, 1),
		"no state":           strings.Replace(good[2], `"state":"healthy"`, `"state":""`, 1),
		"a state of the end": strings.Replace(good[2], `"state":"healthy"`, `"state":"gone"`, 1),
		"no address":         strings.Replace(good[2], `"address":"10.0.0.3:80"`, `"address":""`, 1),
		"another spelling":   strings.Replace(good[2], `"address":"10.0.0.3:80"`, `"address":"10.0.0.3:080"`, 1),
		"no id":              strings.Replace(good[2], `"id":"i3"`, `"id":""`, 1),
		"an id that is none": strings.Replace(good[2], `"id":"i3"`, `"id":"a b"`, 1),
		"another's vhost":    other,
		"no such vhost":      strings.Replace(good[2], `"a.test"`, `"A.test"`, 1),
		"no such check":      strings.Replace(good[2], `"kind":"tcp"`, `"kind":"shell"`, 1),
		"a bad interval":     strings.Replace(good[2], `"kind":"tcp"`, `"kind":"tcp","interval":-1`, 1),
	} {
		if broken == good[2] {
			t.Fatalf("%s: nothing is broken in %s", name, broken)
		}
		to := newSite(t)
		added, read, err := to.Import(t.Context(), strings.NewReader(good[0]+"\n"+good[1]+broken+good[3]), to.verbs.Import)
		if err == nil || !strings.HasPrefix(err.Error(), "line 4: ") || added != 2 || read != 3 {
			t.Errorf("%s: %d of %d, %v; want 2 and an error in line 4", name, added, read, err)
		}
		to.wantList(t, "a.test", "web 1 2")
		// After the repair of the line, the rest is imported, too.
		if added, _, err := to.Import(t.Context(), strings.NewReader(strings.Join(good, "")), to.verbs.Import); added != 2 || err != nil {
			t.Errorf("%s: mended, %d more, %v", name, added, err)
		}
	}
}

// An export finds an order that fits all lists if there is one, and some order otherwise.
func TestExportOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := 9; n > 0; n-- { // a chain: each vhost has two, and its order is only known from the others
		s.up(t, n, hosts(fmt.Sprintf("v%d.test", n), fmt.Sprintf("v%d.test", n-1)))
	}
	var ids []string
	for line := range strings.Lines(s.export(t)) {
		ids = append(ids, line[len(`{"id":"`):len(`{"id":"i1`)])
	}
	if got := strings.Join(ids, " "); got != "i9 i8 i7 i6 i5 i4 i3 i2 i1" {
		t.Errorf("got %s", got)
	}
	s.do(t, "DEL frontend:v1.test")
	s.do(t, "RPUSH frontend:v1.test web http://10.0.0.1:80 http://10.0.0.2:80")
	s.up(t, 10, hosts("v0.test", "v9.test"))
	s.do(t, "DEL frontend:v9.test")
	s.do(t, "RPUSH frontend:v9.test web http://10.0.0.10:80 http://10.0.0.9:80") // by hand, against the order of the others
	taken(t, s.export(t), 10)
}

func TestAnImportIsToldLikeEveryOtherChange(t *testing.T) {
	t.Parallel()
	from := newSite(t)
	from.up(t, 1)
	from.register(t, saying(2))
	to := newSite(t)
	var told []string
	registry := registry.New(to.Store, nil, to.Now, hold, func(_ context.Context, s app.Step) {
		told = append(told, fmt.Sprintf("%s %s is %s: %s", s.Event.Kind, s.Is.ID, s.Is.State, s.Event.Reason))
	})
	if _, _, err := to.Import(t.Context(), strings.NewReader(from.export(t)), registry.Import); err != nil {
		t.Fatal(err)
	}
	want := []string{"registered i1 is healthy: imported", "registered i2 is starting: imported"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
