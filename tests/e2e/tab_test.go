package e2e

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"rollcall/tests/harness"
)

// tab is a tab of the browser. The test fails when its console has an error that is not
// expected, or when it asks another server for anything.
type tab struct {
	t    testing.TB
	site *site
	ctx  context.Context

	mu       sync.Mutex
	errors   []string
	expected []string // parts of errors that the test brings about
	asked    int
}

// open opens a page of a site.
func open(t testing.TB, s *site, path string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(chromium(t), chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	b := &tab{t: t, site: s, ctx: ctx}
	if err := chromedp.Listen(ctx, b.heard); err != nil { // which opens the tab
		t.Fatal(err)
	}
	t.Cleanup(b.check)
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	call(b, runtime.Enable, cdp.Empty{})
	call(b, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}) // each as if it were in front
	b.look(1280, 900, "light")
	b.visit(path)
	return b
}

func (b *tab) heard(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.errors = append(b.errors, fmt.Sprintf("%+v", e.ExceptionDetails))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.errors = append(b.errors, e.Entry.Text+" "+e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			b.errors = append(b.errors, fmt.Sprintf("%+v", e.Args))
		}
	case *page.EventJavascriptDialogOpening:
		b.errors = append(b.errors, "a dialog: "+e.Message)
	case *network.EventRequestWillBeSent:
		b.asked++
		if url := e.Request.URL; !strings.HasPrefix(url, b.site.base+"/") && !strings.HasPrefix(url, "data:") {
			b.errors = append(b.errors, "it asks "+url)
		}
	}
}

// expect lets the console have errors with a text in them.
func (b *tab) expect(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, text)
}

func (b *tab) check() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, err := range b.errors {
		known := false
		for _, text := range b.expected {
			known = known || strings.Contains(err, text)
		}
		if !known {
			b.t.Errorf("the console: %s", err)
		}
	}
	if b.asked < 4 { // the page, its style, its script, the events
		b.t.Errorf("only %d requests were seen", b.asked)
	}
}

// do runs an action of chromedp and returns its result.
func do[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*harness.Patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

// call runs a command of the protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	return do(b, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

// visit goes to a page and waits until it is live.
func (b *tab) visit(path string) {
	b.t.Helper()
	b.visitStill(path)
	b.until("it is live", `document.getElementById("live").textContent === "Live"`)
}

// visitStill goes to a page that may not be live.
func (b *tab) visitStill(path string) {
	b.t.Helper()
	do(b, chromedp.Navigate(b.site.base+path))
}

// look sets the size of the window and the colours that the user prefers.
func (b *tab) look(width, height int64, colours string) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 500,
	})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: colours}},
	})
}

// eval is the value of an expression in the page.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	return do(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// until waits until an expression is true in the page. The page may still be loading.
func (b *tab) until(what, expression string) {
	b.t.Helper()
	harness.Await(b.t, what, func() error {
		ctx, cancel := context.WithTimeout(b.ctx, harness.Patience)
		defer cancel()
		holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err == nil && !holds {
			text, _ := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
			err = errors.New(text)
		}
		return err
	})
}

// press presses keys, one after the other.
func (b *tab) press(keys string) {
	b.t.Helper()
	do(b, chromedp.KeyEvent(keys))
}

// shoot takes a picture of the whole page.
func (b *tab) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("PAGE_SCREENSHOTS")
	if dir == "" {
		dir = b.t.TempDir()
	}
	b.shootInto(dir, name)
}

func (b *tab) shootInto(dir, name string) {
	b.t.Helper()
	picture := call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: new(true)}).Data
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

//go:embed audit.js
var audit string

// audit looks for faults of accessibility and layout.
func (b *tab) audit(where string) {
	b.t.Helper()
	for _, fault := range eval[[]string](b, audit) {
		b.t.Errorf("%s: %s", where, fault)
	}
}
