package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// focused describes the focused element: its id or text, and whether it is visible.
const focused = `(() => {
	const e = document.activeElement, style = getComputedStyle(e);
	return { name: e.id || e.textContent.trim(), visible: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 };
})()`

// tabTo presses Tab until an element has the focus, and returns the elements focused before.
func (b *tab) tabTo(name string) (way []string) {
	b.t.Helper()
	for range 60 {
		b.press(kb.Tab)
		at := eval[struct {
			Name    string
			Visible bool
		}](b, focused)
		if !at.Visible {
			b.t.Errorf("nothing shows that %q has the focus", at.Name)
		}
		way = append(way, at.Name)
		if at.Name == name {
			return way
		}
	}
	b.t.Fatalf("Tab leads to %q, not to %s", way, name)
	return nil
}

// TestDrainWithTheKeyboardAlone drains an instance without a mouse.
func TestDrainWithTheKeyboardAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	backend := newBackend(t)
	s.register("healthy", backend.fields("web", "web-1", "host", "web.example.com")...)
	b := open(t, s, "/instances/web-1")

	way := b.tabTo("drain")
	want := []string{"Skip to the content", "Rollcall", "Overview", "Instances", "Frontends", "Events", "Webhooks", "Tokens", "System", "web", "maintain", "drain"}
	if strings.Join(way, ", ") != strings.Join(want, ", ") {
		t.Errorf("Tab goes through %q, want %q", way, want)
	}
	b.press(kb.Enter)
	b.until("the dialog is open", `document.querySelector("dialog[open]")?.id === "d-drain" && document.activeElement.value === "cancel"`)
	b.audit("drain dialog")
	b.shoot("drain-dialog-1280-light")
	b.press(kb.Escape)
	b.until("Escape closes it", `!document.querySelector("dialog[open]") && document.activeElement.id === "drain"`)
	if got := s.call(http.MethodGet, "/v1/instances/web-1").State; got != "healthy" {
		t.Errorf("after Escape it is %s", got)
	}
	b.press(kb.Enter)
	b.tabTo("drain-now")
	b.press(kb.Enter)
	b.until("it is draining", `document.getElementById("stand")?.dataset.state === "draining"`)
	b.until("it says so", `document.getElementById("said").textContent === "web-1 is draining."`)
	b.until("and why", `document.getElementById("stand").textContent.includes("told to drain")`)
	if eval[bool](b, `Boolean(document.getElementById("drain"))`) {
		t.Error("it can be drained again")
	}
	b.until("it is gone", `document.querySelector(".headline")?.textContent === "It is not registered any more."`)
	b.audit("gone")
	b.shoot("gone-1280-light")
}

func TestMaintenanceAndBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register("healthy", "service", "web", "id", "web-1", "address", "10.0.0.1:80", "health", "none", "host", "web.example.com")
	b := open(t, s, "/instances/web-1")
	b.tabTo("maintain")
	b.press(kb.Enter)
	b.until("the dialog asks how long", `document.activeElement.id === "for"`)
	b.press("4") // 4 hours
	b.look(375, 800, "dark")
	b.audit("maintenance dialog")
	b.shoot("maintenance-dialog-375-dark")
	b.tabTo("maintain-now")
	b.press(" ")
	b.until("it is in maintenance", `document.getElementById("stand").dataset.state === "maintenance"`)
	b.until("for that long", `document.getElementById("stand").textContent.includes("ends in 3 h")`)
	b.until("and not routed", `document.getElementById("v-web.example.com").dataset.state === "false"`)
	b.tabTo("back")
	b.press(kb.Enter)
	b.until("it is back", `document.getElementById("stand").dataset.state === "healthy" && document.getElementById("maintain")`)
}

// TestWhatTheAPIRefusesIsSaid asks for more than it allows.
func TestWhatTheAPIRefusesIsSaid(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.register("healthy", "service", "web", "id", "web-1", "address", "10.0.0.1:80", "health", "none")
	b := open(t, s, "/instances/web-1")
	b.expect("422")
	eval[any](b, `(() => {
		document.getElementById("maintain").click();
		document.getElementById("for").selectedOptions[0].value = "48h";
		document.getElementById("maintain-now").click();
	})()`)
	b.until("it says what is wrong", `document.getElementById("said").textContent.startsWith("Invalid input: for is 48h0m0s")`)
	b.audit("refused")
	b.shoot("refused-1280-light")
}

// TestWhatContainersSayIsText registers an instance that would like to be a script.
func TestWhatContainersSayIsText(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const hostile = `"'></a></title><script>alert(1)</script><img src=//x onerror=alert(2)>`
	s.call(http.MethodPost, "/v1/register", "service", "web", "id", "web-1", "address", "10.0.0.1:80", "health", "heartbeat", "interval", "1h",
		"fall", "1", "tag", hostile[:60], "meta."+hostile[:60], hostile, "boot", hostile)
	s.call(http.MethodPost, "/v1/instances/web-1/heartbeat")
	s.call(http.MethodPost, "/v1/instances/web-1/heartbeat", "status", "fail", "note", hostile)
	b := open(t, s, "/instances/web-1")
	for _, path := range []string{
		"/instances/web-1", "/", "/instances", "/services/web", "/events", "/instances?q=" + url.QueryEscape(hostile), "/events?q=" + url.QueryEscape(hostile),
		"/frontends?q=" + url.QueryEscape(hostile), "/explain?host=" + url.QueryEscape(hostile),
	} {
		b.visit(path)
		if !eval[bool](b, `document.documentElement.outerHTML.includes("onerror") && !document.querySelector("img, main script")`) {
			t.Errorf("%s: it is not there as text", path)
		}
		b.audit(path)
	}
	b.visit("/instances/web-1")
	for _, where := range []string{".stand", "dl", ".events"} {
		if text := eval[string](b, fmt.Sprintf(`document.querySelector(%q).textContent`, where)); !strings.Contains(text, hostile) {
			t.Errorf("%s: %s", where, text)
		}
	}
}
