package handlers_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/replica"
	"rollcall/handlers"
)

// audience records the writes of a stream.
type audience struct {
	*httptest.ResponseRecorder
	mu       sync.Mutex
	heard    strings.Builder
	deadline time.Time // of the next writes
	late     int       // writes without a deadline within a minute
}

func (a *audience) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if wait := time.Until(a.deadline); wait <= 0 || wait > time.Minute {
		a.late++
	}
	return a.heard.Write(p)
}

func (a *audience) Flush() {}

func (a *audience) SetWriteDeadline(at time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deadline = at
	return nil
}

func (a *audience) text() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.heard.String()
}

// listening opens a stream in a bubble of time.
func listening(t *testing.T, query string) (*replica.Replica, *audience) {
	t.Helper()
	return listeningWith(t, query, nil)
}

func listeningWith(t *testing.T, query string, store handlers.Reader) (*replica.Replica, *audience) {
	t.Helper()
	rep := replica.New()
	rep.Reset(nil, "5-0")
	rep.SetCurrent(time.Now())
	ctx, leave := context.WithCancel(t.Context())
	hears := &audience{ResponseRecorder: httptest.NewRecorder()}
	var streaming sync.WaitGroup
	streaming.Go(func() {
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/events"+query, nil)
		r.Host = "localhost"
		(&handlers.API{Replica: rep, Store: store, Tokens: auth.NewTokens(nil, "", false, nil, nil)}).Handler().ServeHTTP(hears, r)
	})
	t.Cleanup(func() {
		leave()
		streaming.Wait()
	})
	return rep, hears
}

func happens(rep *replica.Replica, n int, service string) {
	e := app.Event{Revision: app.Revision(fmt.Sprintf("%d-0", n)), Kind: app.EventUpdated, At: time.Now(), Service: service, Instance: "i", To: app.Healthy}
	rep.Apply([]app.Entry{{Event: e}})
}

func TestSilentStreamsAreKeptAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, hears := listening(t, "")
		time.Sleep(46 * time.Second)
		same(t, "nothing happens", hears.text(), strings.Repeat(": keep-alive\nid: 5-0\n\n", 4))
	})
}

// Events that the filter drops count as silence. The position of the reader must move past them, so that it does not
// continue from an event that Redis no longer keeps when the connection breaks.
func TestFilteredStreamsAreKeptAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rep, hears := listening(t, "?service=db")
		time.Sleep(time.Second / 2) // so that no event comes in the instant of a comment
		for n := range 46 {
			time.Sleep(time.Second)
			happens(rep, n+6, "web")
		}
		synctest.Wait()
		same(t, "only others change", hears.text(),
			": keep-alive\nid: 5-0\n\n"+": keep-alive\nid: 19-0\n\n"+": keep-alive\nid: 34-0\n\n"+": keep-alive\nid: 49-0\n\n")
		happens(rep, 60, "db")
		synctest.Wait()
		if got := hears.text(); strings.Count(got, "data: ") != 1 || !strings.HasSuffix(got, "\n\n") || !strings.Contains(got, "id: 60-0\nevent: updated\ndata: {") {
			t.Errorf("got %s", got)
		}
	})
}

// cut is a store that has lost its events.
type cut struct{ handlers.Reader }

func (cut) Events(context.Context, app.Revision, int) ([]app.Event, error) {
	return nil, &app.TrimmedError{First: "8-0"}
}

// A stream that loses events because its reader is slow sends a gap and ends.
func TestStreamsThatWereCutSaySo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rep, hears := listeningWith(t, "", cut{})
		synctest.Wait()
		rep.Reset(nil, "9-0") // as after Redis was away
		synctest.Wait()
		happens(rep, 10, "web")
		time.Sleep(time.Minute)
		same(t, "it was cut", hears.text(), ": keep-alive\nid: 5-0\n\n"+"event: gap\ndata: {\"first\":\"8-0\",\"reason\":\"events before 8-0 are no longer kept: begin there, or read everything anew\"}\n\n")
	})
}

// A reader that accepts no data would otherwise occupy its stream for ever.
func TestEachWriteToAStreamHasADeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rep, hears := listening(t, "")
		for n := range 3 {
			time.Sleep(20 * time.Second)
			happens(rep, n+6, "web")
		}
		synctest.Wait()
		hears.mu.Lock()
		defer hears.mu.Unlock()
		if hears.heard.Len() == 0 || hears.late > 0 {
			t.Errorf("%d writes had no deadline within a minute", hears.late)
		}
	})
}

func TestBusyStreamsNeedNoKeepingAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rep, hears := listening(t, "")
		for n := range 60 {
			time.Sleep(time.Second)
			happens(rep, n+6, "web")
		}
		synctest.Wait()
		if got := hears.text(); strings.Count(got, "keep-alive") != 1 || strings.Count(got, "data: ") != 60 {
			t.Errorf("got %s", got)
		}
	})
}
