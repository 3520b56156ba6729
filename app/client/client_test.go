package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/app/client"
)

func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"revision":"1-0","service":"web","instances":[{"id":"web-1","state":"healthy","address":"10.0.0.1:80"}]}`)
	})) // stands in for Rollcall
	defer server.Close()

	c, err := client.New(server.URL, "rct_k3x7qzv2m4ab", client.Options{})
	if err != nil {
		panic(err)
	}
	list, err := client.Read[client.ServiceDetail](c.Service(context.Background(), "web", nil))
	if err != nil {
		panic(err)
	}
	for _, i := range list.Instances {
		fmt.Println(i.Id, i.Standing(), i.Address)
	}
	// Output: web-1 healthy 10.0.0.1:80
}

// server answers with these statuses in turn, the last one from then on, and counts the calls.
func server(t *testing.T, body string, statuses ...int) (url string, calls *atomic.Int32) {
	t.Helper()
	calls = &atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(calls.Add(1))
		if got := r.Header.Get("Authorization"); got != "Bearer secret" {
			t.Errorf("Authorization is %q", got)
		}
		w.WriteHeader(statuses[min(n, len(statuses))-1])
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL, calls
}

func TestACallIsRepeatedWhileTheRegistryIsAway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		once     bool
		statuses []int
		calls    int32
		status   int // of the error; 0: none
	}{
		{statuses: []int{503, 200}, calls: 2},
		{statuses: []int{503}, calls: 4, status: 503},
		{statuses: []int{503, 200}, once: true, calls: 1, status: 503},
		{statuses: []int{500, 200}, calls: 1, status: 500},
		{statuses: []int{422}, calls: 1, status: 422},
	} {
		url, calls := server(t, `{"title":"No","status":1,"type":"urn:rollcall:x","detail":"for a reason"}`, c.statuses...)
		api, err := client.New(url, " secret\n", client.Options{Once: c.once})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Text(api.RegisterWithFormdataBody(t.Context(), nil, client.RegistrationForm{Service: "web"}))
		if calls.Load() != c.calls || (err != nil) != (c.status != 0) || err != nil && !client.IsStatus(err, c.status) {
			t.Errorf("%v, once %t: %d calls, %v; want %d calls and status %d", c.statuses, c.once, calls.Load(), err, c.calls, c.status)
		}
		if err != nil && err.Error() != "No: for a reason" {
			t.Errorf("the error is %q", err)
		}
	}
}

func TestARepeatedFieldIsRepeatedInTheForm(t *testing.T) {
	t.Parallel()
	var got string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got = r.PostForm.Encode()
		fmt.Fprint(w, "{}")
	}))
	defer s.Close()
	api, err := client.New(s.URL, "", client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	form := client.TokenForm{Name: "ci", Scope: []string{"read", "register:web"}}
	if _, err := client.Text(api.CreateTokenWithFormdataBody(t.Context(), form)); err != nil {
		t.Fatal(err)
	}
	if want := "name=ci&scope=read&scope=register%3Aweb"; got != want {
		t.Errorf("the form is %s, want %s", got, want)
	}
}

// A first call may have created the token, although its answer was 503.
func TestACallThatCreatesATokenIsNotRepeated(t *testing.T) {
	t.Parallel()
	url, calls := server(t, "", 503)
	api, err := client.New(url, "secret", client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Text(api.CreateTokenWithFormdataBody(t.Context(), client.TokenForm{Name: "ci", Scope: []string{"read"}}))
	if calls.Load() != 1 || !client.IsStatus(err, 503) {
		t.Errorf("%d calls, %v; want one", calls.Load(), err)
	}
}

func TestAnAnswerThatIsNotRollcallsNamesTheURL(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	api, err := client.New(strings.Replace(s.URL, "http://", "user:password@", 1), "", client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Read[client.ServiceList](api.Services(t.Context()))
	if err == nil || !strings.Contains(err.Error(), "is this the URL of Rollcall's API?") || strings.Contains(err.Error(), "password") {
		t.Errorf("the error is %v", err)
	}
}

// waiting is a transport for a bubble of time: 304 after the wait, until the service has an instance.
type waiting struct{ healthy time.Time }

func (w waiting) Do(r *http.Request) (*http.Response, error) {
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	status, body := http.StatusNotModified, ""
	if r.Header.Get("If-None-Match") == "" {
		status, body = http.StatusOK, `{"instances":[]}`
	} else {
		time.Sleep(min(wait, max(0, time.Until(w.healthy))))
	}
	if !time.Now().Before(w.healthy) {
		status, body = http.StatusOK, `{"instances":[{"id":"web-1"}]}`
	}
	recorder := httptest.NewRecorder()
	recorder.Header().Set("ETag", `"1"`)
	recorder.WriteHeader(status)
	_, _ = recorder.WriteString(body)
	resp := recorder.Result()
	resp.Request = r
	return resp, nil
}

func TestAwaitHealthyReturnsWithTheFirstInstance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls, err := client.NewClient("http://rollcall", client.WithHTTPClient(waiting{time.Now().Add(47 * time.Second)}))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := (&client.Client{Calls: calls}).AwaitHealthy(t.Context(), "web"); err != nil || time.Since(began) != 47*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}
