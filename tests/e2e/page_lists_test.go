package e2e

import (
	"testing"
)

// TestAListSortsFiltersAndShowsLatencies follows the columns, the chips and the boxes of the list of instances.
func TestAListSortsFiltersAndShowsLatencies(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	slow := newBackend(t)
	slow.slow.Store(40)
	s.register("healthy", slow.fields("web", "web-1", "tag", "blue")...)
	s.register("healthy", "service", "web", "id", "web-2", "address", "10.0.0.2:80", "health", "none", "tag", "green")
	b := open(t, s, "/instances")
	ids := `[...document.querySelectorAll("tr[id^=i-]")].map((row) => row.id).join(" ")`
	click := func(id string) {
		t.Helper()
		eval[any](b, `document.getElementById("`+id+`").click(), null`)
	}
	b.until("probed instances have a latency", `/^(< 1|\d+) ms$/.test(document.querySelector("#i-web-1 .num").textContent) && document.querySelector("#i-web-2 .num").textContent === "–"`)
	click("by-id")
	b.until("sorted by id", ids+` === "i-web-1 i-web-2" && document.querySelector("[aria-sort=ascending]").textContent === "Instance"`)
	click("by-id")
	b.until("sorted the other way round", ids+` === "i-web-2 i-web-1" && document.querySelector("[aria-sort=descending]").textContent === "Instance"`)
	click("tag-green")
	b.until("one has the tag", ids+` === "i-web-2" && document.getElementById("tag-green").ariaCurrent === "true"`)
	click("tag-green")
	b.until("both are shown", ids+` === "i-web-2 i-web-1"`)
	b.until("a chip has the number of instances", `document.getElementById("state-healthy").textContent === "healthy 2"`)
	click("pick-all")
	click("bulk-drain")
	b.until("all are selected", `document.querySelector("dialog[open] .picked").textContent === "web-2, web-1"`)
	b.audit("a list")

	b.visit("/services/web?range=1h")
	click("by-address")
	b.until("sorting keeps the range", `document.getElementById("r-1h").ariaCurrent === "true" && location.search.includes("sort=address")`)
	b.visit("/")
	b.look(390, 900, "dark")
	b.until("a phone has the strip of a service", `document.querySelector("#s-web .strip").getBoundingClientRect().width > 200`)
	b.audit("strips on a phone")
}
