package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// api is a client of one web process.
type api struct {
	t     testing.TB
	base  string // http://host:port
	token string // empty: none
}

// with returns the caller for a subtest.
func (a api) with(t testing.TB) api { return api{t: t, base: a.base, token: a.token} }

// answer is the outcome of a call.
type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

// problem is an error answer.
type problem struct{ Type, Detail, Field, Want string }

func (a answer) problem(t testing.TB) problem {
	t.Helper()
	return decode[problem](t, a.body)
}

func decode[T any](t testing.TB, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// instance is an instance as the API shows it, or the receipt of a registration.
type instance struct {
	ID          string
	State       string
	New         bool
	Address     string
	AddressFrom string `json:"address_from"`
	Streak      int
	NextProbe   time.Time `json:"next_probe"`
	AsOf        time.Time `json:"as_of"`
	Since       time.Time
	Check       struct{ Kind, Target, Interval string }
	Frontends   []struct {
		Host, Key, Backend string
		Slots              int
	}
	Links   map[string]string
	Results []struct {
		Passed bool
		Reason string
	}
}

var caller = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}

// try makes a call that may fail. With a form it sends the request of curl -d.
func (a api) try(method, path string, form url.Values) (got answer, err error) {
	var headers []string
	if a.token != "" {
		headers = []string{"Authorization", "Bearer " + a.token}
	}
	began := time.Now()
	got.status, got.header, got.body, err = harness.Ask(a.t.Context(), caller, method, a.base+path, form, headers...)
	got.took = time.Since(began)
	return got, err
}

// once makes a call and fails the test without an answer.
func (a api) once(method, path string, form url.Values) answer {
	a.t.Helper()
	got, err := a.try(method, path, form)
	if err != nil {
		a.t.Fatal(err)
	}
	return got
}

// call makes a call and retries it as every client must, while Redis is too slow.
func (a api) call(method, path string, form url.Values) (got answer) {
	a.t.Helper()
	began := time.Now()
	harness.Eventually(a.t, func() error {
		if got = a.once(method, path, form); got.status == http.StatusServiceUnavailable {
			return fmt.Errorf("%s %s %v: %s", method, path, form, got)
		}
		return nil
	})
	got.took = time.Since(began)
	return got
}

// form is name, value, name, value, ...; a name may be repeated.
func form(pairs ...string) url.Values {
	v := url.Values{}
	for n := 0; n < len(pairs); n += 2 {
		v.Add(pairs[n], pairs[n+1])
	}
	return v
}

// register registers an instance, fails the test if that is refused, and returns the receipt.
func (a api) register(f url.Values) instance {
	a.t.Helper()
	got := a.call(http.MethodPost, "/v1/register", f)
	if got.status != http.StatusCreated && got.status != http.StatusOK {
		a.t.Fatalf("register %v: %s", f, got)
	}
	return got.instance(a.t)
}

// registerAndWait registers an instance with ?wait, as the README does, and returns the healthy
// instance. first is false if that took more than one call, on a busy machine.
func (a api) registerAndWait(f url.Values) (got answer, first bool) {
	a.t.Helper()
	first = true
	harness.Eventually(a.t, func() error {
		got = a.once(http.MethodPost, "/v1/register?wait=10s", f)
		switch got.status {
		case http.StatusCreated:
			return nil
		case http.StatusOK:
			if !first {
				return nil
			}
			a.t.Fatalf("register %v: %s, want 201", f, got)
		case http.StatusServiceUnavailable, http.StatusFailedDependency:
			first = false
		default:
			a.t.Fatalf("register %v: %s", f, got)
		}
		return fmt.Errorf("register %v: %s", f, got)
	})
	return got, first
}

func (a answer) instance(t testing.TB) instance {
	t.Helper()
	return decode[instance](t, a.body)
}

// instance reads a registered instance.
func (a api) instance(id string) instance {
	a.t.Helper()
	got := a.call(http.MethodGet, "/v1/instances/"+id, nil)
	if got.status != http.StatusOK {
		a.t.Fatalf("instance %s: %s", id, got)
	}
	return got.instance(a.t)
}

// awaitState waits until an instance has a state.
func (a api) awaitState(id, state string) {
	a.t.Helper()
	harness.Eventually(a.t, func() error {
		got := a.call(http.MethodGet, "/v1/instances/"+id, nil)
		if i := got.instance(a.t); got.status != http.StatusOK || i.State != state {
			return fmt.Errorf("%s is %s, want %s", id, got, state)
		}
		return nil
	})
}

// awaitGone waits until an instance is no longer registered.
func (a api) awaitGone(id string) {
	a.t.Helper()
	harness.Eventually(a.t, func() error {
		if got := a.call(http.MethodGet, "/v1/instances/"+id, nil); got.status != http.StatusNotFound {
			return fmt.Errorf("%s is still there: %s", id, got)
		}
		return nil
	})
}

// ready waits until the process can take calls.
func (a api) ready() {
	a.t.Helper()
	harness.Eventually(a.t, func() error {
		got, err := a.try(http.MethodGet, "/readyz", nil)
		if err != nil {
			return err
		}
		if got.status != http.StatusOK {
			return fmt.Errorf("readyz: %s", got)
		}
		return nil
	})
}
