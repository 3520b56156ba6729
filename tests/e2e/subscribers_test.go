package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/redisstore"
	"rollcall/app/registry"
	"rollcall/hipache"
	"rollcall/tests/harness"
)

const (
	listeners       = 100 // of events
	pollers         = 100 // of a service
	slowReaders     = 5
	watchedServices = 20
	changesPer      = 20 * time.Millisecond // one change each
)

// TestSubscribersMissNothing has two web processes with a hundred listeners and a
// hundred pollers, whose connections break all the time, while fifty changes are made
// every second.
func TestSubscribersMissNothing(t *testing.T) { //nolint:paralleltest // it measures the memory of the process
	server := harness.StartRedis(t)
	named := func(name string) *redis.Client {
		c := redis.NewClient(&redis.Options{Addr: server.Addr(), ClientName: name, ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	const prefix = "load:"
	world := newChanges(t, named("writer"), prefix)
	for n := range watchedServices { // so that every service is there when pollers ask
		world.register(n, 0)
		world.register(n, 1)
	}
	webs := []*web{webOn(t, named("web-0"), prefix), webOn(t, named("web-1"), prefix)}

	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(stop)
	var hearing []*listener
	for n := range listeners {
		l := &listener{t: t, web: webs[n%2], other: webs[n%2]}
		switch n % 4 {
		case 0:
			l.service = "s" + strconv.Itoa(n%watchedServices)
		case 1:
			l.other = webs[(n+1)%2] // reconnects elsewhere
		}
		hearing = append(hearing, l)
	}
	var slow []*listener
	for n := range slowReaders {
		slow = append(slow, &listener{t: t, web: webs[n%2], other: webs[n%2], hold: make(chan struct{})})
	}
	for _, l := range append(hearing, slow...) {
		l.begin = make(chan struct{})
		all.Go(func() { l.run(ctx) })
		<-l.begin
	}
	var polling []*poller
	for n := range pollers {
		p := &poller{t: t, webs: webs[n%2 : n%2+1], service: "s" + strconv.Itoa(n%watchedServices)}
		if n%4 == 0 {
			p.webs = webs // one behind a load balancer asks now this one, now that one
		}
		polling = append(polling, p)
		all.Go(func() { p.run(ctx) })
	}

	before := heap()
	made := world.run(loadFor(t, 5*time.Second), func() { oneReadPerProcess(t, named, len(webs)) })
	truth := world.truth()
	t.Logf("%d changes, %d events", made, len(truth))

	for n, l := range hearing {
		l.await(fmt.Sprint("listener ", n), truth)
	}
	for n, p := range polling {
		p.await(fmt.Sprint("poller ", n), truth, world.meta)
	}
	// Everybody has everything, and the slow ones have not taken a byte yet.
	if grown := heap() - before; grown > 64<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	for n, l := range slow {
		close(l.hold)
		l.await(fmt.Sprint("slow listener ", n), truth)
	}
	broken, asked := int64(0), int64(0)
	for _, l := range hearing {
		broken += l.broken.Load()
	}
	for _, p := range polling {
		asked += p.asked.Load()
	}
	t.Logf("connections of listeners broke %d times; pollers asked %d times", broken, asked)
	if made >= 200 && broken < listeners { // fewer on a machine that is too busy to change much
		t.Errorf("only %d connections were cut", broken)
	}
	// One that is answered before anything has changed would ask thousands of times.
	if limit := int64(pollers) * int64(made); asked > limit {
		t.Errorf("pollers have asked %d times, more than %d", asked, limit)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// oneReadPerProcess looks at Redis's list of clients: all subscribers of a process
// share one read that waits, and hardly another connection.
func oneReadPerProcess(t testing.TB, named func(string) *redis.Client, webs int) {
	t.Helper()
	looker := named("looker")
	for n := range webs {
		name := "web-" + strconv.Itoa(n)
		connections, most := 0, 0
		harness.Await(t, name+" waits for news", func() error {
			list, err := looker.ClientList(t.Context()).Result()
			if err != nil {
				return err
			}
			reads := 0
			connections = 0
			for line := range strings.Lines(list) {
				if !strings.Contains(line, " name="+name+" ") {
					continue
				}
				connections++
				if strings.Contains(line, " cmd=xread ") {
					reads++
				}
			}
			if most = max(most, reads); reads != 1 {
				return fmt.Errorf("%d reads", reads)
			}
			return nil
		})
		if most > 1 || connections > 3 {
			t.Errorf("%s has %d reads of the stream and %d connections", name, most, connections)
		}
	}
}

// changes makes changes, by a process of its own.
type changes struct {
	t        testing.TB
	rdb      *redis.Client
	prefix   string
	registry *registry.Registry
	count    int
	meta     map[string]string // by instance, its current number
}

func newChanges(t testing.TB, rdb *redis.Client, prefix string) *changes {
	store := redisstore.New(rdb, redisstore.Options{Prefix: prefix, Hipache: hipache.Keys{Prefix: prefix}})
	return &changes{
		t: t, rdb: rdb, prefix: prefix, meta: map[string]string{},
		registry: registry.New(store, nil, store.Now, time.Second, func(context.Context, app.Step) {}),
	}
}

func (c *changes) register(service, n int) {
	c.t.Helper()
	c.count++
	id, number := fmt.Sprintf("s%d-%d", service, n), strconv.Itoa(c.count)
	c.insist(func() error {
		_, err := c.registry.Register(c.t.Context(), app.Registration{
			Service: "s" + strconv.Itoa(service), ID: id, Address: fmt.Sprintf("10.0.%d.%d:80", service, n+1), Health: "none",
			Meta: map[string]string{"n": number},
		})
		return err
	})
	c.meta[id] = number
}

// insist makes a change, again if the machine is so busy that Redis does not answer in
// time: every one may be repeated.
func (c *changes) insist(change func() error) {
	c.t.Helper()
	harness.Await(c.t, "a change is made", func() error {
		err := change()
		if err != nil && !errors.Is(err, app.ErrUnavailable) {
			c.t.Fatal(err)
		}
		return err
	})
}

// run makes changes for a while; half way it looks at something.
func (c *changes) run(during time.Duration, look func()) int {
	c.t.Helper()
	began, made, looked := time.Now(), 0, false
	dice := rand.New(rand.NewPCG(1, 0))
	for ; time.Since(began) < during; made++ {
		time.Sleep(time.Until(began.Add(time.Duration(made) * changesPer))) // what was held up is made up for
		service := dice.IntN(watchedServices)
		id := fmt.Sprintf("s%d-1", service)
		if _, known := c.meta[id]; known && made%5 == 0 {
			c.insist(func() error {
				_, _, err := c.registry.Deregister(c.t.Context(), id, "")
				if errors.Is(err, app.ErrNotFound) {
					return nil
				}
				return err
			})
			delete(c.meta, id)
			continue
		}
		c.register(service, dice.IntN(2))
		if !looked && time.Since(began) > during/2 {
			looked = true
			look()
		}
	}
	return made
}

// truth is every event there was, as Redis has them.
func (c *changes) truth() []app.Event {
	c.t.Helper()
	store := redisstore.New(c.rdb, redisstore.Options{Prefix: c.prefix})
	var all []app.Event
	for after := app.Revision("0"); ; after = all[len(all)-1].Revision {
		some, err := store.Events(c.t.Context(), after, 500)
		if err != nil {
			c.t.Fatal(err)
		}
		if all = append(all, some...); len(some) == 0 {
			return all
		}
	}
}

// listener hears events, on connections that break.
type listener struct {
	t          testing.TB
	web, other *web   // where it begins, and where it goes on
	service    string // only this one's
	hold       chan struct{}
	begin      chan struct{} // closed when it listens

	broken atomic.Int64

	mu    sync.Mutex
	start string // where the stream began
	heard []string
}

func (l *listener) run(ctx context.Context) {
	query := ""
	if l.service != "" {
		query = "?service=" + l.service
	}
	last, base := "", l.web.base
	for opened := false; ctx.Err() == nil; base = l.other.base {
		client := &http.Client{Transport: harness.CheckingTransport(l.t, fragile(l.hold == nil, 10<<10))}
		s, a, err := listen(ctx, client, base, query, last)
		if a.status == http.StatusServiceUnavailable {
			pause(ctx)
			continue
		}
		if err != nil || s == nil {
			if ctx.Err() == nil && a.status != 0 {
				l.t.Errorf("after %s: %s", last, a)
				return
			}
			continue
		}
		if !opened {
			opened = true
			l.first(s)
		}
		if l.hold != nil {
			select {
			case <-l.hold:
			case <-ctx.Done():
			}
		}
		last = l.hear(s)
		client.CloseIdleConnections()
	}
}

// first reads where the stream begins.
func (l *listener) first(s *stream) {
	line, err := s.lines.ReadString('\n') // a comment
	for err == nil && !strings.HasPrefix(line, "id: ") {
		line, err = s.lines.ReadString('\n')
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start = strings.TrimSpace(strings.TrimPrefix(line, "id: "))
	if err != nil || l.start == "" {
		l.t.Errorf("a stream does not say where it begins: %q, %v", line, err)
	}
	s.last = l.start
	close(l.begin)
}

// hear reads events until the connection breaks, and returns where that was.
func (l *listener) hear(s *stream) string {
	defer s.close()
	for {
		e, err := s.next()
		if err != nil {
			l.broken.Add(1)
			return s.last
		}
		l.mu.Lock()
		l.heard = append(l.heard, e.id)
		n := len(l.heard)
		l.mu.Unlock()
		if n%100 == 1 {
			if err := harness.CheckEvent([]byte(e.data)); err != nil {
				l.t.Error(err)
			}
		}
	}
}

// await waits until the listener has heard what there was since it began, each once
// and in order.
func (l *listener) await(name string, truth []app.Event) {
	l.t.Helper()
	var want []string
	for _, e := range truth {
		if e.Revision.Compare(app.Revision(l.start)) > 0 && (l.service == "" || e.Service == l.service) {
			want = append(want, string(e.Revision))
		}
	}
	harness.Await(l.t, name, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for n, id := range l.heard {
			if n >= len(want) || id != want[n] {
				l.t.Fatalf("%s, since %s: the event %d of %d is %s, want %s", name, l.start, n, len(want), id, append(want, "none")[min(n, len(want))])
			}
		}
		if len(l.heard) < len(want) {
			return fmt.Errorf("heard %d of %d", len(l.heard), len(want))
		}
		return nil
	})
}

// poller asks for a service again and again, for what is new.
type poller struct {
	t       testing.TB
	webs    []*web
	service string

	asked atomic.Int64

	mu   sync.Mutex
	rev  app.Revision
	meta map[string]string
}

func (p *poller) run(ctx context.Context) {
	client := &http.Client{Transport: fragile(true, 60<<10)}
	defer client.CloseIdleConnections()
	for n := 0; ctx.Err() == nil; n++ {
		if err := p.ask(ctx, client, p.webs[n%len(p.webs)]); err != nil {
			p.t.Error(err)
			return
		}
	}
}

func (p *poller) ask(ctx context.Context, client *http.Client, at *web) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.base+"/v1/services/"+p.service+"?wait=2s", nil)
	if err != nil {
		return err
	}
	known := p.rev
	if known != "" {
		r.Header.Set("If-None-Match", `"`+string(known)+`"`)
	}
	p.asked.Add(1)
	resp, err := client.Do(r)
	if err != nil {
		return nil // it broke
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil
	case resp.StatusCode == http.StatusNotModified && known != "" && len(text) == 0:
		return nil
	case resp.StatusCode == http.StatusServiceUnavailable:
		pause(ctx)
		return nil
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s after %s: %s %s", p.service, known, resp.Status, text)
	}
	list := decode[struct {
		Revision  app.Revision
		Instances []struct {
			ID   string
			Meta map[string]string
		}
	}](p.t, string(text))
	if list.Revision.Compare(known) <= 0 || resp.Header.Get("ETag") != `"`+string(list.Revision)+`"` {
		return fmt.Errorf("%s after %s: got %s (%s) once more", p.service, known, list.Revision, resp.Header.Get("ETag"))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rev, p.meta = list.Revision, map[string]string{}
	for _, i := range list.Instances {
		p.meta[i.ID] = i.Meta["n"]
	}
	return nil
}

// await waits until the poller has what the service is like in the end.
func (p *poller) await(name string, truth []app.Event, meta map[string]string) {
	p.t.Helper()
	var last app.Revision
	for _, e := range truth {
		if e.Service == p.service {
			last = e.Revision
		}
	}
	want := map[string]string{}
	for id, number := range meta {
		if service, _, _ := strings.Cut(id, "-"); service == p.service {
			want[id] = number
		}
	}
	harness.Await(p.t, name, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.rev.Compare(last) < 0 || fmt.Sprint(p.meta) != fmt.Sprint(want) {
			return fmt.Errorf("%s stands on %s %v, want %s %v", p.service, p.rev, p.meta, last, want)
		}
		return nil
	})
}

// pause is what a subscriber does that is told to try again: on a machine that is busy
// enough, a process has not heard from Redis for two seconds.
func pause(ctx context.Context) {
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
	}
}

// fragile makes connections that break after some bytes, up to twice as many as said.
func fragile(breaks bool, bytes int) *http.Transport {
	dialer := &net.Dialer{}
	var connections atomic.Uint64
	return &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if !breaks {
			return c, nil
		}
		return &brittle{Conn: c, left: bytes/2 + rand.New(rand.NewPCG(2, connections.Add(1))).IntN(bytes)}, nil
	}}
}

type brittle struct {
	net.Conn
	left int
}

func (c *brittle) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, cmp.Or(c.Close(), io.ErrUnexpectedEOF)
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
