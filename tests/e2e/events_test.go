package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/replica"
	"rollcall/handlers"
	"rollcall/tests/harness"
)

func TestEventsGoOnWhereTheyBroke(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	quiet := w.open("", "")
	w.register("service", "web", "address", "10.0.0.1:80", "id", "w1", "health", "none")
	first := quiet.expect(t, "registered", "w1")
	quiet.close()
	w.register("service", "db", "address", "10.0.0.2:80", "id", "d1", "health", "none")
	w.call(http.MethodDelete, "/v1/instances/w1", nil)

	again := w.open("", quiet.last)
	if quiet.last != first.id {
		t.Errorf("the last id is %s, want %s", quiet.last, first.id)
	}
	again.expect(t, "registered", "d1")
	gone := again.expect(t, "gone", "w1")

	filtered := w.open("?service=web&kind=gone", "0")
	if e := filtered.expect(t, "gone", "w1"); e.id != gone.id {
		t.Errorf("filtered: got %+v", e)
	}
	other := webOn(t, w.rdb, w.prefix) // another process, without any of these events
	elsewhere := other.open("", first.id)
	elsewhere.expect(t, "registered", "d1")
	elsewhere.expect(t, "gone", "w1")
}

// A stream without events still has an id to resume from.
func TestEventsDuringABreakBeforeTheFirst(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.register("service", "web", "address", "10.0.0.1:80", "id", "before", "health", "none")
	silent := w.open("?service=db", "")
	line, err := silent.lines.ReadString('\n')
	for err == nil && !strings.HasPrefix(line, "id: ") {
		line, err = silent.lines.ReadString('\n')
	}
	silent.close()
	w.register("service", "db", "address", "10.0.0.2:80", "id", "meanwhile", "health", "none")
	w.open("?service=db", strings.TrimSpace(strings.TrimPrefix(line, "id: "))).expect(t, "registered", "meanwhile")
}

func TestEventIDsThatLeadNowhere(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	for n := range 5 {
		w.register("service", "web", "address", fmt.Sprintf("10.0.0.%d:80", n+1), "id", fmt.Sprint("w", n), "health", "none")
	}
	all, err := w.rdb.XRange(t.Context(), w.prefix+"events", "-", "+").Result()
	if err != nil || len(all) != 5 {
		t.Fatal(all, err)
	}
	if err := w.rdb.XTrimMaxLen(t.Context(), w.prefix+"events", 2).Err(); err != nil {
		t.Fatal(err)
	}
	late := webOn(t, w.rdb, w.prefix) // its replica lacks the trimmed events
	p := late.get("/v1/events", http.StatusGone, "Last-Event-ID", all[1].ID).problem(t)
	if p.Type != "urn:rollcall:trimmed" || !strings.Contains(p.Detail, all[3].ID) || p.Want == "" {
		t.Errorf("too old: got %+v, want to hear of %s", p, all[3].ID)
	}
	begins := late.open("", "0")
	if e := begins.expect(t, "registered", "w3"); e.id != all[3].ID {
		t.Errorf("what is kept begins with %s, want %s", e.id, all[3].ID)
	}
	begins.expect(t, "registered", "w4")
	w.open("", all[1].ID).expect(t, "registered", "w2") // this one still has it

	for _, id := range []string{"yesterday", "-1", "1-", "1-2-3", "18446744073709551616", "1.5"} {
		a := w.call(http.MethodGet, "/v1/events", nil, "Last-Event-ID", id)
		if p := a.problem(t); a.status != http.StatusUnprocessableEntity || p.Field != "Last-Event-ID" || p.Want == "" {
			t.Errorf("%q: got %s", id, a)
		}
	}
	for _, query := range []string{"?kind=born", "?service=a&service=b", "?since=0"} {
		if a := w.call(http.MethodGet, "/v1/events"+query, nil); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: got %s", query, a)
		}
	}
}

func TestSubscribersThatGoAwayLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.register("service", "web", "address", "10.0.0.1:80", "id", "w1", "health", "none")
	tag := w.get("/v1/services/web", http.StatusOK).header.Get("ETag")
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{}, 20)
	for range 10 {
		s, a, err := listen(ctx, w.client, w.base, "", "")
		if err != nil || s == nil {
			t.Fatal(a, err)
		}
		go func() {
			defer s.close()
			_, _ = s.next()
			left <- struct{}{}
		}()
		go func() {
			_, _ = w.try(ctx, http.MethodGet, "/v1/services/web?wait=5m", nil, "If-None-Match", tag)
			left <- struct{}{}
		}()
	}
	harness.Await(t, "all are waiting", func() error {
		if n := w.serving.Load(); n != 20 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	leave()
	for range 20 {
		<-left
	}
	harness.Await(t, "none is waiting", func() error {
		if n := w.serving.Load(); n != 0 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}

func TestWaitsThatRunOut(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.register("service", "web", "address", "10.0.0.1:80", "id", "w1", "health", "none")
	tag := w.get("/v1/services/web", http.StatusOK).header.Get("ETag")
	a := w.get("/v1/services/web?wait=50ms", http.StatusNotModified, "If-None-Match", tag)
	if a.body != "" || a.header.Get("ETag") != tag {
		t.Errorf("got %v %s", a.header, a)
	}
	w.get("/v1/services/web?wait=50ms", http.StatusNotModified, "If-None-Match", "W/"+tag) // as after a proxy that compresses
	w.get("/v1/services/nobody?wait=5m", http.StatusNotFound, "If-None-Match", tag)
	w.get("/v1/services/web?wait=6m", http.StatusUnprocessableEntity, "If-None-Match", tag)

	gone := make(chan answer)
	go func() {
		a, _ := w.try(t.Context(), http.MethodGet, "/v1/services/web?wait=5m", nil, "If-None-Match", tag)
		gone <- a
	}()
	harness.Await(t, "somebody waits", func() error {
		if w.serving.Load() != 1 {
			return errors.New("nobody does")
		}
		return nil
	})
	w.call(http.MethodDelete, "/v1/instances/w1", nil)
	if a := <-gone; a.status != http.StatusNotFound {
		t.Errorf("a service that has gone meanwhile: got %s", a)
	}
}

// Revisions are the same in all processes, whenever they started. So a caller behind a load balancer does
// not get one change from each of them.
func TestRevisionsOfOneProcessCountInAnother(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.register("service", "web", "address", "10.0.0.1:80", "id", "w1", "health", "none")
	w.register("service", "db", "address", "10.0.0.2:80", "id", "d1", "health", "none")
	late := webOn(t, w.rdb, w.prefix)
	for _, order := range [][]*web{{w, late}, {late, w}} {
		tag := order[0].get("/v1/services/web", http.StatusOK).header.Get("ETag")
		for range 3 {
			for _, at := range order[1:] {
				a := at.call(http.MethodGet, "/v1/services/web?wait=20ms", nil, "If-None-Match", tag)
				if tag = a.header.Get("ETag"); a.status == http.StatusOK {
					tag = order[0].get("/v1/services/web", http.StatusNotModified, "If-None-Match", tag).header.Get("ETag")
				}
			}
		}
	}
	tag := late.get("/v1/services/web", http.StatusOK).header.Get("ETag") // of a moment when web had been quiet for long
	w.get("/v1/services/web", http.StatusNotModified, "If-None-Match", tag)
}

// blocked is a reader that never reads: writes to it block for ever.
type blocked struct {
	*httptest.ResponseRecorder
	until  <-chan struct{}
	writes chan struct{}
}

func (b *blocked) Write(p []byte) (int, error) {
	b.writes <- struct{}{}
	<-b.until
	return 0, errors.New("too slow")
}

func (b *blocked) SetWriteDeadline(time.Time) error { return nil }

// TestReadersShareOneRing has blocked readers, and more events than a process keeps. Each reader costs
// the memory of one batch.
func TestReadersShareOneRing(t *testing.T) { //nolint:paralleltest // it measures the memory of the process
	rep := replica.New()
	rep.Reset(nil, "0-0")
	rep.SetCurrent(time.Now().Add(time.Hour))
	apply := func(from, to int) {
		for n := from; n < to; n++ {
			e := app.Event{
				Revision: app.Revision(fmt.Sprintf("%d-0", n+1)), Kind: app.EventUpdated, At: time.Now(), Service: "web",
				Instance: "w1", To: app.Healthy, Reason: strings.Repeat(fmt.Sprintf("%d ", n), 100),
			}
			rep.Apply([]app.Entry{{Event: e}})
		}
	}
	handler := (&handlers.API{Replica: rep, Tokens: auth.NewTokens(nil, "", false, nil, nil)}).Handler()
	ctx, leave := context.WithCancel(t.Context())
	const readers = 200
	writes, done := make(chan struct{}, readers), make(chan struct{}, readers)
	apply(0, 300)
	before := heap()
	for range readers {
		go func() {
			defer func() { done <- struct{}{} }()
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/events", nil)
			r.Host = "localhost"
			handler.ServeHTTP(&blocked{httptest.NewRecorder(), ctx.Done(), writes}, r)
		}()
	}
	for range readers {
		<-writes
	}
	apply(300, 30_000)
	const events = 2 * 4096 * 1200 // bytes of the ring when it is full, at most
	if grown := heap() - before; grown > 2*events {
		t.Errorf("the heap has grown by %d KiB with %d readers who take nothing", grown>>10, readers)
	}
	leave()
	for range readers {
		<-done
	}
}

// A process that ends closes the streams and waits of its callers, and they continue at another process.
func TestAProcessThatEndsIsNotHeldUp(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	p := boots(t, server, "web")
	p.register("service", "web", "address", "10.0.0.1:80", "id", "w1", "health", "none")
	tag := p.get("/v1/services/web", http.StatusOK).header.Get("ETag")
	s := p.open("", "")
	if _, err := s.lines.Peek(1); err != nil {
		t.Fatal(err)
	}
	waits := make(chan answer)
	go func() {
		a, _ := p.try(t.Context(), http.MethodGet, "/v1/services/web?wait=5m", nil, "If-None-Match", tag)
		waits <- a
	}()
	ended := make(chan struct{})
	go func() {
		p.stop()
		close(ended)
	}()
	if e, err := s.next(); err == nil {
		t.Errorf("got %+v from a process that ends", e)
	}
	<-waits // 304, or no answer if the call had not arrived yet
	select {
	case <-ended:
	case <-time.After(9 * time.Second): // it gives requests 10 s
		t.Error("it waits for a stream to end")
	}
}
