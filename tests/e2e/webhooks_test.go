package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"rollcall/tests/harness"
)

// receiver is the server behind a webhook.
type receiver struct {
	t      testing.TB
	server *httptest.Server
	hook   string // the webhook's id

	mu     sync.Mutex
	secret string
	posts  []post
	handle func(n int, w http.ResponseWriter, r *http.Request) // of the nth post, from 0; nil: 204
}

// post is a message that a receiver got.
type post struct {
	id       string
	taken    bool // it was answered with 2xx
	Type     string
	Replayed bool
	Data     struct {
		Instance, First, Last string
		Events                int
	}
}

// newReceiver creates a webhook for all events from now on; handle answers its messages.
func newReceiver(a api, handle func(n int, w http.ResponseWriter, r *http.Request), fields ...string) *receiver {
	a.t.Helper()
	r := &receiver{t: a.t}
	r.server = httptest.NewServer(r)
	a.t.Cleanup(r.server.Close)
	got := a.call(http.MethodPost, "/v1/webhooks", form(append([]string{"url", r.server.URL}, fields...)...))
	var created struct{ ID, Secret string }
	if err := json.Unmarshal([]byte(got.body), &created); err != nil || got.status != http.StatusCreated {
		a.t.Fatalf("create webhook: %s, %v", got, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook, r.secret, r.handle, r.posts = created.ID, created.Secret, handle, nil
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	text, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender is gone
	}
	p := post{id: req.Header.Get("webhook-id")}
	r.mu.Lock()
	if r.secret != "" { // after the first ping
		verifier, err := standardwebhooks.NewWebhook(r.secret)
		if err == nil {
			err = verifier.Verify(text, req.Header)
		}
		if err != nil {
			r.t.Errorf("%s: %v", text, err)
		}
	}
	if err := json.Unmarshal(text, &p); err != nil {
		r.t.Errorf("%s: %v", text, err)
	}
	n, handle := len(r.posts), r.handle
	r.posts = append(r.posts, p)
	r.mu.Unlock()
	answer := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	if handle == nil {
		answer.WriteHeader(http.StatusNoContent)
	} else {
		handle(n, answer, req)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n < len(r.posts) {
		r.posts[n].taken = answer.status < 300
	}
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// got returns the posts so far.
func (r *receiver) got() []post {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.posts)
}

// taken lists the ids of the messages that the receiver accepted.
func (r *receiver) taken() []string {
	var ids []string
	for _, p := range r.got() {
		if p.taken {
			ids = append(ids, p.id)
		}
	}
	return ids
}

// messages lists the message ids of all events.
func (k *stack) messages() []string {
	k.t.Helper()
	entries, err := k.Redis.XRange(k.t.Context(), "rollcall:events", "-", "+").Result()
	if err != nil {
		k.t.Fatal(err)
	}
	ids := make([]string, len(entries))
	for n, e := range entries {
		ids[n] = "msg_" + e.ID
	}
	return ids
}

// stir causes n events.
func stir(a api, n int) {
	a.t.Helper()
	for i := range n {
		a.register(form("service", "web", "id", fmt.Sprintf("stirred-%d", i), "address", "127.0.0.1:9", "health", "none", "boot", fmt.Sprint(time.Now().UnixNano())))
	}
}

// awaitAll waits until a receiver has accepted every message, in order.
func (k *stack) awaitAll(r *receiver) {
	k.t.Helper()
	harness.Eventually(k.t, func() error {
		if got, want := r.taken(), k.messages(); !slices.Equal(got, want) {
			return fmt.Errorf("taken are %q, want %q", got, want)
		}
		return nil
	})
}

// TestAReceiverThatFailsAndIsAwayGetsEveryEventInOrder lets a receiver refuse every other message, and
// then stop listening for a while.
func TestAReceiverThatFailsAndIsAwayGetsEveryEventInOrder(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	k.Process("cron")
	k.Process("cron")
	_, a := k.web()
	r := newReceiver(a, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n%2 == 0 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}, "rate", "1000")
	stir(a, 3)
	harness.Eventually(t, func() error {
		if n := len(r.taken()); n < 2 {
			return fmt.Errorf("it has taken %d", n)
		}
		return nil
	})

	addr := r.server.Listener.Addr().String()
	r.server.Close()
	stir(a, 3)
	harness.Eventually(t, func() error {
		if got := a.call(http.MethodGet, "/v1/webhooks/"+r.hook+"/deliveries", nil); !strings.Contains(got.body, "connection refused") {
			return fmt.Errorf("deliveries are %s", got)
		}
		return nil
	})
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: r}}
	r.server.Start()
	t.Cleanup(r.server.Close)
	k.awaitAll(r)

	var distinct []string
	for _, p := range r.got() {
		if !slices.Contains(distinct, p.id) {
			distinct = append(distinct, p.id)
		}
	}
	if want := k.messages(); !slices.Equal(distinct, want) || len(r.got()) < 2*len(want)-1 {
		t.Errorf("sent, refused or not, were %q, want %q and the half of them twice", distinct, want)
	}
}

// TestTheAttemptOfAKilledWorkerIsMadeAgain kills a worker while a receiver has its message and has not
// answered. A second worker runs all the time.
func TestTheAttemptOfAKilledWorkerIsMadeAgain(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	first := k.Process("cron")
	_, a := k.web()
	reached, killed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r := newReceiver(a, func(n int, _ http.ResponseWriter, _ *http.Request) {
		if n == 3 {
			once.Do(func() { close(reached) })
			<-killed
		}
	}, "rate", "1000")
	release := sync.OnceFunc(func() { close(killed) })
	t.Cleanup(release)
	stir(a, 8)
	select {
	case <-reached:
	case <-time.After(harness.Patience):
		t.Fatalf("got %v", r.got())
	}
	k.Process("cron")
	other := newReceiver(a, nil, "rate", "1000")
	stir(a, 2)
	harness.Eventually(t, func() error { // by either worker, while the first one sends the other message
		if n := len(other.taken()); n < 2 {
			return fmt.Errorf("the other receiver has taken %d", n)
		}
		return nil
	})
	first.Kill()
	release()

	want := k.messages()
	want = slices.Insert(want, 4, want[3]) // the interrupted one
	harness.Eventually(t, func() error {
		var got []string
		for _, p := range r.got() {
			got = append(got, p.id)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("sent were %q, want %q", got, want)
		}
		return nil
	})
}

// TestTheJobDeliversWithoutAWorker runs without a cron process.
func TestTheJobDeliversWithoutAWorker(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	_, a := k.web()
	r := newReceiver(a, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	stir(a, 3)
	harness.Eventually(t, func() error {
		if got := a.call(http.MethodPost, "/v1/jobs/deliver/run", nil); got.status != http.StatusOK {
			t.Fatalf("run deliver: %s", got)
		}
		if got, want := r.taken(), k.messages(); !slices.Equal(got, want) {
			return fmt.Errorf("taken are %q, want %q", got, want)
		}
		return nil
	})
}

// TestAThousandDeathsAreOneDigest stops a thousand instances at once.
func TestAThousandDeathsAreOneDigest(t *testing.T) {
	t.Parallel()
	const deaths, lot = 1000, 100
	k := newStack(t)
	k.Process("cron")
	_, a := k.web()
	var servers []net.Listener
	for n := range deaths {
		l, err := net.Listen("tcp", fmt.Sprintf("127.79.%d.%d:0", n/200, 1+n%200))
		if err != nil {
			t.Skipf("this system has one loopback address: %v", err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_ = c.Close()
			}
		}()
		servers = append(servers, l)
	}
	for at := 0; at < deaths; at += lot {
		var entries []map[string]any
		for n := at; n < at+lot; n++ {
			entries = append(entries, map[string]any{
				"service": "herd", "id": fmt.Sprintf("herd-%d", n), "address": servers[n].Addr().String(), "health": "tcp", "rise": 1, "fall": 1, "forget": "1h",
			})
		}
		a.registerAll(entries)
	}
	harness.Eventually(t, func() error {
		got := a.call(http.MethodGet, "/v1/services", nil)
		if !strings.Contains(got.body, fmt.Sprintf(`"healthy":%d`, deaths)) {
			return fmt.Errorf("services are %s", got)
		}
		return nil
	})
	receivers := []*receiver{newReceiver(a, nil, "kind", "unhealthy"), newReceiver(a, nil, "kind", "unhealthy", "rate", "5")}
	for _, l := range servers {
		_ = l.Close()
	}
	var all []string
	harness.Eventually(t, func() error {
		entries, err := k.Redis.XRange(t.Context(), "rollcall:events", "-", "+").Result()
		if err != nil {
			return err
		}
		all = nil
		for _, e := range entries {
			if event, _ := e.Values["event"].(string); strings.Contains(event, `"kind":"unhealthy"`) {
				all = append(all, e.ID)
			}
		}
		if len(all) != deaths {
			return fmt.Errorf("%d have died", len(all))
		}
		return nil
	})
	for n, r := range receivers {
		rate := []int{60, 5}[n]
		harness.Eventually(t, func() error {
			posts := r.got()
			if len(posts) != rate+1 {
				return fmt.Errorf("rate %d: told %d times, want %d, and a digest", rate, len(posts), rate)
			}
			return nil
		})
		digest := r.got()[rate]
		if digest.Type != "digest" || digest.Data.Events != deaths-rate || digest.Data.First != all[rate] || digest.Data.Last != all[deaths-1] {
			t.Errorf("rate %d: the last message is %+v, want a digest of the other %d", rate, digest, deaths-rate)
		}
	}
	r := receivers[0]
	if got := a.call(http.MethodPost, "/v1/webhooks/"+r.hook+"/replay?since="+all[0]+"&until="+all[deaths-1], nil); got.status != http.StatusAccepted {
		t.Fatalf("replay: %s", got)
	}
	harness.Eventually(t, func() error {
		posts := r.got()[61:]
		if len(posts) != deaths {
			return fmt.Errorf("%d were replayed", len(posts))
		}
		for n, p := range posts {
			if p.id != "msg_"+all[n] || !p.Replayed {
				t.Fatalf("%d: replayed is %+v, want event %s", n, p, all[n])
			}
		}
		return nil
	})
}

// registerAll registers an array; each element must be accepted.
func (a api) registerAll(entries []map[string]any) {
	a.t.Helper()
	text, err := json.Marshal(entries)
	if err != nil {
		a.t.Fatal(err)
	}
	harness.Eventually(a.t, func() error {
		resp, err := caller.Post(a.base+"/v1/register", "application/json", strings.NewReader(string(text)))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != http.StatusMultiStatus || strings.Contains(string(body), `"problem"`)) {
			err = fmt.Errorf("register %d: %d %.500s", len(entries), resp.StatusCode, body)
		}
		return err
	})
}

// TestHostileReceiversDelayNoOtherReceiver runs receivers that block a worker as long as they can. The
// other receivers must get their messages at once: with attempts in turn a message would take minutes.
func TestHostileReceiversDelayNoOtherReceiver(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	k.Process("cron")
	_, a := k.web()
	ends := make(chan struct{})
	var redirected sync.Map
	lured := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { redirected.Store(r.RemoteAddr, r.URL) }))
	t.Cleanup(lured.Close)
	until := func(r *http.Request) bool {
		select {
		case <-ends:
			return false
		case <-r.Context().Done():
			return false
		case <-time.After(100 * time.Millisecond):
			return true
		}
	}
	trickle := func(w http.ResponseWriter, r *http.Request) {
		for until(r) {
			if _, err := io.WriteString(w, "x"); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
		}
	}
	hostile := map[string]*receiver{}
	for says, handle := range map[string]func(http.ResponseWriter, *http.Request){
		"timed out": func(_ http.ResponseWriter, r *http.Request) {
			for until(r) {
				continue
			}
		},
		"status 500": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			trickle(w, r)
		},
		"status 302": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, lured.URL, http.StatusFound) },
		"status 400": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write(make([]byte, 10<<20))
		},
		"connection closed early": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		hostile[says] = newReceiver(a, func(_ int, w http.ResponseWriter, r *http.Request) { handle(w, r) })
	}
	t.Cleanup(func() { close(ends) })
	good := newReceiver(a, nil, "rate", "1000")
	b := harness.NewBackend(t)
	a.register(harness.Registration(b, "probed", "probed.localhost"))
	a.awaitState("probed", "healthy")
	stir(a, 10)
	k.awaitAll(good)
	probes := len(b.Probed("probed"))
	harness.Eventually(t, func() error {
		if n := len(b.Probed("probed")); n < probes+3 {
			return fmt.Errorf("%d probes more", n-probes)
		}
		return nil
	})
	b.Is(harness.Refuses)
	a.awaitState("probed", "unhealthy")
	k.awaitAll(good)

	for says, r := range hostile {
		harness.Eventually(t, func() error {
			got := a.call(http.MethodGet, "/v1/webhooks/"+r.hook+"/deliveries", nil)
			if !strings.Contains(got.body, `"passed":false,"reason":"`+says) || strings.Contains(got.body, `"passed":true`) {
				return errors.New("deliveries are " + got.String() + ", want " + says)
			}
			return nil
		})
	}
	redirected.Range(func(from, to any) bool {
		t.Errorf("a redirect to %v was followed from %v", to, from)
		return true
	})
}
