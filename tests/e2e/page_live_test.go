package e2e

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp/kb"

	"rollcall/app"
	"rollcall/app/redisstore"
	"rollcall/tests/harness"
)

// row is the state that the page shows for an instance; null when it shows none.
func row(id string) string {
	return fmt.Sprintf(`document.getElementById("i-%s")?.dataset.state`, id)
}

// TestAnInstanceThatDiesShowsWithinASecond compares when the registry knew with when the
// page said so. It is not to wait for the other tests.
func TestAnInstanceThatDiesShowsWithinASecond(t *testing.T) { //nolint:paralleltest // see above
	s := newSite(t)
	backends := make([]*backend, 5)
	for n := range backends {
		backends[n] = newBackend(t)
		s.register("healthy", backends[n].fields("web", fmt.Sprintf("web-%d", n))...)
	}
	b := open(t, s, "/services/web")
	eval[any](b, `(() => {
		window.seen = {};
		new MutationObserver(() => {
			for (const row of document.querySelectorAll("tr[data-state=unhealthy]")) seen[row.id] ??= Date.now();
		}).observe(document.body, { subtree: true, childList: true, attributes: true });
	})()`)
	var late []time.Duration
	for n, backend := range backends {
		id := fmt.Sprintf("web-%d", n)
		backend.sick.Store(true)
		b.until(id+" is unhealthy", row(id)+` === "unhealthy"`)
		text, err := s.try(http.MethodGet, "/v1/instances/"+id, nil)
		if err != nil {
			t.Fatal(err)
		}
		var i struct{ Since time.Time }
		if err := json.Unmarshal([]byte(text), &i); err != nil {
			t.Fatal(err)
		}
		late = append(late, time.UnixMilli(eval[int64](b, `seen["i-`+id+`"]`)).Sub(i.Since))
	}
	slices.Sort(late)
	t.Logf("shown after %s", late)
	if median := late[len(late)/2]; median > time.Second {
		t.Errorf("an instance's death shows after %s", late)
	}
	b.until("the title says it", `document.title.startsWith("(5 down) ")`)
}

func TestARegistrationAppearsWithoutReload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := open(t, s, "/")
	b.until("there is nothing", `document.querySelector(".headline").textContent === "Nothing is registered."`)
	b.audit("empty")
	b.shoot("empty-1280-light")
	eval[any](b, `window.same = true, null`)
	s.register("healthy", "service", "web", "id", "web-1", "address", "10.0.0.1:80", "health", "none")
	b.until("the service is there", `document.getElementById("s-web")`)
	b.until("and counted", `document.querySelector(".headline").textContent === "1 of 1 instance healthy."`)
	if !eval[bool](b, `window.same === true`) {
		t.Error("the page was loaded again")
	}
}

// TestTheRestOfThePageStays updates the page while a user works with it.
func TestTheRestOfThePageStays(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := range 60 {
		s.call(http.MethodPost, "/v1/register", "service", "web", "id", fmt.Sprintf("web-%02d", n+10), "address", fmt.Sprintf("10.0.0.%d:80", n+10), "health", "none")
	}
	b := open(t, s, "/instances")
	eval[any](b, `(() => {
		const link = document.querySelector("#i-web-40 a");
		link.focus();
		link.scrollIntoView();
		window.before = { link, top: link.getBoundingClientRect().top };
	})()`)
	s.call(http.MethodDelete, "/v1/instances/web-10")
	s.call(http.MethodPatch, "/v1/instances/web-40", "maintenance", "true", "for", "1h")
	b.until("both are shown", row("web-10")+` === undefined && `+row("web-40")+` === "maintenance"`)
	if !eval[bool](b, `before.link.isConnected && document.activeElement === before.link`) {
		t.Errorf("the focus is on %s", eval[string](b, `document.activeElement.outerHTML.slice(0, 200)`))
	}

	backend := newBackend(t)
	s.register("healthy", backend.fields("web", "opened")...)
	b.visit("/instances/opened")
	b.until("its results are shown", `document.getElementById("results")`)
	eval[any](b, `document.getElementById("results").open = true, document.getElementById("maintain").click(), null`)
	backend.sick.Store(true)
	b.until("it is unhealthy", `document.getElementById("stand").dataset.state === "unhealthy"`)
	if !eval[bool](b, `document.getElementById("results").open`) {
		t.Error("the table of results was closed")
	}
	if !eval[bool](b, `document.getElementById("d-maintenance").open`) {
		t.Error("the dialog was closed")
	}
}

// TestTenThousandInstances searches among as many, letter by letter.
func TestTenThousandInstances(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill(100, 100)

	b := open(t, s, "/")
	b.until("all are counted", `document.querySelector(".headline").textContent === "10000 of 10000 instances healthy."`)
	b.audit("10,000")
	b.shoot("ten-thousand-1280-light")
	call(b, performance.Enable, performance.EnableParams{})
	var took []time.Duration
	interact := func(what, expression string, act func()) {
		t.Helper()
		before := b.scripts()
		act()
		b.until(what, expression)
		took = append(took, b.scripts()-before)
	}
	found := func(n int) string {
		return fmt.Sprintf(`document.querySelector(".found")?.textContent.startsWith("%d of 10000 found")`, n)
	}
	eval[any](b, `document.getElementById("q").focus(), null`)
	for _, step := range []struct {
		key  string
		want int
	}{{"4", 3439}, {"2", 199}, {"-", 100}, {"0", 10}, {"7", 1}} {
		interact("what has "+step.key, found(step.want), func() { b.press(step.key) })
	}
	b.until("it is the one", row("service-42-07")+` === "healthy"`)
	for _, want := range []int{10, 100} {
		interact("a letter less", found(want), func() { b.press(kb.Backspace) })
	}
	if got := eval[string](b, `document.activeElement.id + " " + document.activeElement.value + " " + location.pathname + location.search`); got != "q 42- /instances?q=42-" {
		t.Errorf("after typing: %s", got)
	}
	slices.Sort(took)
	t.Logf("script time: %s", took)
	if median := took[len(took)/2]; median > 100*time.Millisecond {
		t.Errorf("an interaction takes %s of script", took)
	}

	b.visit("/instances")
	eval[any](b, `document.getElementById("next").click(), null`)
	b.until("the second page", `document.querySelector(".pager span")?.textContent === "51–100 of 10000"`)
	b.visit("/instances?q=service-42")
	s.call(http.MethodDelete, "/v1/instances/service-42-00")
	b.until("one has gone", strings.ReplaceAll(found(99), "10000", "9999"))
}

// fill registers instances without a check, as a hundred registrations of each service in one step do.
func (s *site) fill(services, each int) {
	s.t.Helper()
	store := redisstore.New(s.redis.Client(s.t), redisstore.Options{Prefix: "rollcall:", Log: slog.New(slog.DiscardHandler)})
	for service := range services {
		var c app.Change
		for n := range each {
			i, _, err := app.Registration{
				Service: fmt.Sprintf("service-%02d", service), ID: fmt.Sprintf("service-%02d-%02d", service, n), Health: "none",
				Address: fmt.Sprintf("10.%d.%d.1:80", service, n),
			}.Instance()
			if err != nil {
				s.t.Fatal(err)
			}
			i.RegisteredAt = store.Now()
			i = i.Begin(i.RegisteredAt)
			c.Steps = append(c.Steps, app.Step{Is: i, Event: &app.Event{
				Kind: app.EventRegistered, At: i.RegisteredAt, Service: i.Service, Instance: i.ID, To: i.State, Reason: "first registration",
			}})
		}
		harness.Await(s.t, "they are registered", func() error {
			_, err := store.Commit(s.t.Context(), c)
			return err
		})
	}
}

// scripts is how long scripts have run so far.
func (b *tab) scripts() time.Duration {
	b.t.Helper()
	for _, m := range call(b, performance.GetMetrics, cdp.Empty{}).Metrics {
		if m.Name == "ScriptDuration" {
			return time.Duration(m.Value * float64(time.Second))
		}
	}
	b.t.Fatal("Chromium does not say how long scripts have run")
	return 0
}

// TestThePageSaysThatItIsCutOff takes Redis away, and then Rollcall.
func TestThePageSaysThatItIsCutOff(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	backend := newBackend(t)
	s.register("healthy", backend.fields("web", "web-1", "host", "web.example.com")...)
	b := open(t, s, "/")
	b.until("it shows the service", `document.getElementById("s-web")`)
	s.redis.Freeze()
	b.until("the registry is away", `document.getElementById("stale") && document.getElementById("s-web")`)
	b.audit("registry away")
	b.shoot("registry-away-1280-light")
	b.expect("503") // events cannot be followed from here on
	for _, path := range []string{"/instances", "/services/web", "/instances/web-1", "/frontends", "/explain?host=web.example.com", "/events", "/webhooks", "/tokens", "/system"} {
		b.visitStill(path)
		if !eval[bool](b, `Boolean(document.getElementById("stale")) && document.querySelector("h1").textContent !== ""`) {
			t.Errorf("%s does not say that the registry is away", path)
		}
	}
	b.shoot("registry-away-events-1280-light")
	b.visitStill("/instances/web-1")
	s.redis.Thaw()
	b.until("it is back", `!document.getElementById("stale") && document.querySelector(".chart")`)

	b.expect("net::ERR_") // the browser's error for a server that is down
	u, err := url.Parse(s.base)
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	b.until("Rollcall is away", `!document.getElementById("away").hidden && document.getElementById("live").textContent === "Disconnected"`)
	b.audit("disconnected")
	b.shoot("disconnected-1280-light")
	siteOn(t, s.redis, u.Port())
	b.until("it is back", `document.getElementById("away").hidden && document.getElementById("live").textContent === "Live"`)
}
