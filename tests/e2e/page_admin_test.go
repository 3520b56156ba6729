package e2e

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestAWebhookFromItsCreationToItsEnd creates, tests, pauses, resumes, replays and deletes a webhook on the page.
func TestAWebhookFromItsCreationToItsEnd(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			http.Error(w, "full", http.StatusInsufficientStorage)
		}
	}))
	t.Cleanup(receiver.Close)
	s := newSite(t)
	b := open(t, s, "/webhooks")
	eval[any](b, `document.getElementById("new-url").value = "`+receiver.URL+`", document.getElementById("create").click(), null`)
	b.until("the secret is shown", `document.getElementById("said").textContent.includes("whsec_")`)
	b.until("it is listed", `document.querySelector("tr[id^=w-]")?.dataset.state === "active"`)
	b.audit("webhooks")
	b.shoot("webhooks-1280-light")
	b.visit(eval[string](b, `new URL(document.querySelector("tr[id^=w-] a").href).pathname`))
	sick.Store(true)
	eval[any](b, `document.getElementById("test").click(), null`)
	b.until("the answer to the ping is shown", `document.getElementById("said").textContent.includes("507")`)
	s.call(http.MethodPost, "/v1/register", "service", "web", "id", "web-1", "address", "10.0.0.1:80", "health", "none")
	b.until("the delivery is shown", `document.querySelector("tr[data-state=false]")?.textContent.includes("507")`)
	sick.Store(false)
	b.audit("webhook")
	b.look(390, 800, "dark")
	b.audit("webhook on a phone")
	b.shoot("webhook-390-dark")
	b.look(1280, 900, "light")
	eval[any](b, `document.getElementById("pause").click(), null`)
	b.until("it is paused", `document.querySelector(".headline").textContent === "paused"`)
	eval[any](b, `document.getElementById("resume").click(), null`)
	b.until("it is active", `document.getElementById("pause")`)
	b.expect("422")
	eval[any](b, `document.getElementById("replay").click(), document.getElementById("replay-now").click(), null`)
	b.until("a replay needs a beginning", `document.getElementById("said").textContent.includes("since is missing")`)
	eval[any](b, `document.getElementById("remove").click(), null`)
	b.audit("delete dialog")
	b.expect("404") // the page may read the webhook once more before it goes to the list
	eval[any](b, `document.getElementById("remove-now").click(), null`)
	b.until("it is gone", `location.pathname === "/webhooks" && document.querySelector("main .empty")?.textContent === "There is no webhook."`)
}

// TestATokenIsShownOnceAndRevoked creates a token with the keyboard and revokes it.
func TestATokenIsShownOnceAndRevoked(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := open(t, s, "/tokens")
	eval[any](b, `document.getElementById("new-name").value = "deploy", document.getElementById("new-scope").value = "read", null`)
	b.tabTo("create")
	b.press("\r")
	b.until("it is listed", `document.querySelector("tr[id^=k-]")?.textContent.includes("deploy")`)
	said := eval[string](b, `document.getElementById("said").textContent`)
	if !strings.Contains(said, "Copy it now") {
		t.Errorf("after the creation: %q", said)
	}
	b.audit("tokens")
	b.shoot("tokens-1280-light")
	eval[any](b, `document.querySelector("[id^=revoke-]").click(), null`)
	b.until("the dialog asks", `document.querySelector("dialog[open]")?.textContent.includes("Revoke the token deploy?")`)
	b.audit("revoke dialog")
	eval[any](b, `document.querySelector("dialog[open] .danger").click(), null`)
	b.until("it is revoked", `!document.querySelector("tr[id^=k-]")`)
}

// TestTheHistoryOfAService follows the strip, the latencies and the departed instances of a service.
func TestTheHistoryOfAService(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	backend := newBackend(t)
	s.register("healthy", backend.fields("web", "web-1", "host", "web.example.com")...)
	s.register("healthy", "service", "web", "id", "web-2", "address", "10.0.0.1:80", "health", "none")
	s.call(http.MethodDelete, "/v1/instances/web-2")
	b := open(t, s, "/services/web?range=1h")
	b.until("uptime is known", `document.querySelector("#past p").textContent.startsWith("Uptime over")&& !document.querySelector("#past p").textContent.includes(": unknown")`)
	b.until("latencies are drawn", `document.querySelector(".plot .p50")?.getAttribute("d").length > 1`)
	b.until("web-2 has departed", `document.getElementById("departed").textContent.includes("web-2")`)
	if got := eval[int](b, `document.querySelectorAll("#past .strip g").length`); got != 60 {
		t.Errorf("the strip of an hour has %d bars", got)
	}
	b.until("the range is marked", `document.querySelector("#past .chips [aria-current]").textContent === "1h"`)
	for _, width := range []int64{390, 1280, 2560} {
		b.look(width, 900, "dark")
		b.audit("history")
	}
	b.shoot("service-2560-dark")
}

// TestTheOverviewNamesFaults has a service that is down, and one that starts.
func TestTheOverviewNamesFaults(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	backend := newBackend(t)
	backend.sick.Store(true)
	s.register("failed", backend.fields("web", "web-1", "host", "web.example.com", "grace", "300ms")...)
	s.register("starting", "service", "batch", "id", "batch-1", "address", "10.0.0.9:1", "host", "batch.example.com", "health", "heartbeat", "grace", "1h")
	b := open(t, s, "/")
	b.until("the fault is named", `document.getElementById("attention")?.textContent.includes("web: 1 of 1 instances down")`)
	text := eval[string](b, `document.getElementById("attention").textContent`)
	if !strings.Contains(text, "web.example.com has no routed backend") || strings.Contains(text, "batch") {
		t.Errorf("the list of faults: %s", text)
	}
	if got := eval[string](b, `document.getElementById("v-batch.example.com").querySelector(".state").className`); got != "state starting" {
		t.Errorf("the vhost of a service that starts is %q", got)
	}
	b.audit("faults")
}

// TestSeveralInstancesAtOnce sorts a list, and takes two of its instances out of service.
func TestSeveralInstancesAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, id := range []string{"web-1", "web-2", "api-1"} {
		s.register("healthy", "service", id[:3], "id", id, "address", "10.0.0."+id[4:]+":"+map[string]string{"web": "80", "api": "81"}[id[:3]], "health", "none", "tag", "blue", "host", id+".example.com")
	}
	b := open(t, s, "/instances?sort=service")
	if first := eval[string](b, `document.querySelector("tr[id^=i-]").id`); first != "i-api-1" {
		t.Errorf("sorted by service, the first row is %s", first)
	}
	eval[any](b, `document.getElementById("bulk-drain").click(), null`)
	b.until("nothing is selected", `document.getElementById("said").textContent === "Select instances first."`)
	eval[any](b, `document.querySelectorAll("#i-web-1 .pick, #i-web-2 .pick").forEach((box) => box.click()), document.getElementById("bulk-maintenance").click(), null`)
	b.until("the dialog names them", `document.querySelector("dialog[open] .picked").textContent === "web-1, web-2"`)
	b.audit("several at once")
	eval[any](b, `document.getElementById("bulk-maintenance-now").click(), null`)
	b.until("both are in maintenance", row("web-1")+` === "maintenance" && `+row("web-2")+` === "maintenance"`)
	b.until("it says so", `document.getElementById("said").textContent === "2 of 2 instances are in maintenance."`)
	b.look(390, 800, "light")
	b.audit("a list on a phone")
	b.shoot("instances-390-light")

	b.visit("/instances/api-1")
	eval[any](b, `document.getElementById("copy-id").click(), null`)
	b.until("the id is copied", `document.getElementById("said").textContent === "Copied: api-1"`)
	eval[any](b, `document.getElementById("drain").click(), null`)
	b.until("the dialog names the impact", `document.querySelector("#d-drain .impact").textContent === "api-1.example.com will have no backend."`)
	b.visit("/events?kind=registered")
	b.until("only this kind", `document.querySelectorAll(".events li:not(.heading)").length === 3 && document.querySelector(".events .heading")`)
	b.audit("events of a kind")
}

// TestAVhostHasARowForEachInstance has an instance of weight 3.
func TestAVhostHasARowForEachInstance(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register("healthy", "service", "web", "id", "web-1", "address", "10.0.0.1:80", "health", "none", "host", "web.example.com")
	s.call(http.MethodPatch, "/v1/instances/web-1", "weight", "3", "for", "1h")
	b := open(t, s, "/explain?host=web.example.com")
	b.until("one row has three positions", `document.querySelectorAll("tr[id^=b-]").length === 1 && document.getElementById("b-0").firstElementChild.textContent === "0, 1, 2"`)
	b.audit("a vhost")
	b.shoot("vhost-1280-light")
}

// TestAFailingWebhookIsAFault has a receiver that refuses each message.
func TestAFailingWebhookIsAFault(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			http.Error(w, "full", http.StatusInsufficientStorage)
		}
	}))
	t.Cleanup(receiver.Close)
	s := newSite(t)
	id := s.call(http.MethodPost, "/v1/webhooks", "url", receiver.URL).ID
	sick.Store(true)
	s.register("healthy", "service", "web", "id", "web-1", "address", "10.0.0.1:80", "health", "none")
	b := open(t, s, "/")
	b.until("the fault is named", `document.getElementById("attention")?.textContent.includes("Failing webhooks: `+id+`")`)
}

// TestTheWeightDialogAndADrainOfSeveral gives an instance a weight, and drains two instances that a tag selects.
func TestTheWeightDialogAndADrainOfSeveral(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, id := range []string{"web-1", "web-2", "web-3"} {
		tag := map[bool]string{true: "green", false: "blue"}[id == "web-3"]
		s.register("healthy", "service", "web", "id", id, "address", "10.0.0."+id[4:]+":80", "health", "none", "tag", tag, "host", "web.example.com")
	}
	b := open(t, s, "/instances/web-3")
	eval[any](b, `document.getElementById("weigh").click(), document.getElementById("new-weight").value = "3", null`)
	b.audit("weight dialog")
	eval[any](b, `document.getElementById("weigh-now").click(), null`)
	b.until("the weight is shown", `document.getElementById("stand").textContent.includes("set its weight to 3")`)

	b.visit("/instances?tag=blue")
	b.until("two have the tag", `document.querySelectorAll("tr[id^=i-]").length === 2`)
	eval[any](b, `document.querySelectorAll("tbody .pick").forEach((box) => box.click()), document.getElementById("bulk-drain").click(), null`)
	b.until("the dialog names them", `document.querySelector("dialog[open] .picked").textContent === "web-1, web-2"`)
	eval[any](b, `document.getElementById("bulk-drain-now").click(), null`)
	b.until("both drain", row("web-1")+` === "draining" && `+row("web-2")+` === "draining"`)

	b.visit("/explain?host=web.example.com")
	b.until("backends without requests come first", `[...document.querySelectorAll("tr[id^=b-], tr[id^=u-]")].map((r) => r.dataset.state === "true").join() === [...document.querySelectorAll("tr[id^=b-], tr[id^=u-]")].map((r) => r.dataset.state === "true").sort().join()`)
	b.visit("/events")
	b.until("times are local, with UTC on hover", `(() => { const t = document.querySelector("time.clock"); return t.textContent === new Date(t.dateTime).toLocaleTimeString([], { hour12: false }) && t.title.endsWith("UTC"); })()`)
}

// TestTheSystemListsThisProcess looks at a process while it runs, and at its entry after its end.
func TestTheSystemListsThisProcess(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := open(t, s, "/system")
	b.until("the process has all shards", `document.querySelector("tr[id^=o-] .num")?.textContent === "256"`)
	version := eval[string](b, `document.getElementById("version").textContent`)
	if got := eval[string](b, `document.querySelector("tr[id^=o-] .why").textContent`); got != version {
		t.Errorf("the version of the process is %q, and it says that it is %q", got, version)
	}
	for _, width := range []int64{390, 1280} {
		b.look(width, 900, "dark")
		b.audit("system")
	}
	b.shoot("system-1280-dark")
	b.expect("net::ERR_")
	s.stop()
	if n := s.redis.Client(t).ZCard(t.Context(), "rollcall:processes").Val(); n != 0 {
		t.Errorf("%d processes are listed after the end of the only one", n)
	}
}
