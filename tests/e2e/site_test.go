package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"rollcall/app/boot"
	"rollcall/tests/harness"
)

// browser is the Chromium of all tests; each has a tab of its own.
var browser struct {
	sync.Mutex
	context.Context
	err error
}

func chromium(t testing.TB) context.Context {
	t.Helper()
	path := harness.Need(t, harness.Chromium...)
	browser.Lock()
	defer browser.Unlock()
	if browser.Context == nil {
		browser.Context, browser.err = startBrowser(path) //nolint:fatcontext // it is set once
	}
	if browser.err != nil {
		t.Fatal(browser.err)
	}
	return browser.Context
}

func startBrowser(path string) (context.Context, error) {
	profile, err := os.MkdirTemp("", "chromium")
	if err != nil {
		return nil, err
	}
	started, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-dev-shm-usage", true),
	)
	ctx, end := chromedp.NewContext(started)
	harness.AtEnd(func() error {
		end()
		cancel()
		return os.RemoveAll(profile)
	})
	return ctx, chromedp.Do(ctx) // which starts it
}

// site is a Rollcall with everything but the edge.
type site struct {
	t     testing.TB
	redis *harness.Server
	base  string // http://host:port
	stop  func() // returns when it has ended
}

// newSite starts a Rollcall on a redis-server of its own.
func newSite(t testing.TB) *site {
	t.Helper()
	return siteOn(t, harness.StartRedis(t), "0")
}

func siteOn(t testing.TB, redis *harness.Server, port string) *site {
	t.Helper()
	config, err := boot.Load([]string{"REDIS_URL=redis://" + redis.Addr(), "PORT=" + port, "ROLLCALL_SETTLE=300ms"})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	process, err := boot.New(t.Context(), config, boot.Roles{Web: true, Cron: true}, false, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // it ends after its users
	ended := make(chan error, 1)
	go func() { ended <- process.Run(ctx) }()
	s := &site{t: t, redis: redis, base: "http://" + process.WebAddr()}
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("rollcall: %v", err)
		}
	})
	t.Cleanup(s.stop)
	harness.Await(t, "rollcall is ready", func() error {
		_, err := s.try(http.MethodGet, "/readyz", nil)
		return err
	})
	return s
}

// try makes a call; one that is refused is an error.
func (s *site) try(method, path string, form url.Values) (string, error) {
	status, _, text, err := harness.Ask(s.t.Context(), http.DefaultClient, method, s.base+path, form)
	if err == nil && status > 299 {
		err = fmt.Errorf("%s %s: %d %s", method, path, status, text)
	}
	return text, err
}

// call sends a form: name, value, name, value, ...; again when the machine is too busy.
func (s *site) call(method, path string, pairs ...string) (answer struct{ ID, State string }) {
	s.t.Helper()
	harness.Await(s.t, method+" "+path, func() error {
		text, err := s.try(method, path, form(pairs...))
		if err == nil && text != "" {
			err = json.Unmarshal([]byte(text), &answer)
		}
		return err
	})
	return answer
}

// register registers an instance and waits until it is in a state.
func (s *site) register(state string, pairs ...string) string {
	s.t.Helper()
	id := s.call(http.MethodPost, "/v1/register", pairs...).ID
	s.await(id, state)
	return id
}

func (s *site) await(id, state string) {
	s.t.Helper()
	harness.Await(s.t, id+" is "+state, func() error {
		if got := s.call(http.MethodGet, "/v1/instances/"+id).State; got != state {
			return errors.New("it is " + got)
		}
		return nil
	})
}
