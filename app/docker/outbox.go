package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	api "rollcall/app/client"
)

const (
	answerWithin = 10 * time.Second // an answer of Rollcall
	batch        = 100              // registrations in one call
	firstRetry   = 250 * time.Millisecond
	lastRetry    = 10 * time.Second // the longest time between two tries
	maxDrain     = 5 * time.Minute  // longest drain period that the API accepts
	complainEach = 10 * time.Second // time between two log lines about failed calls
	idleWait     = 24 * time.Hour   // without a wish
)

// action is the change of the instances of a container.
type action int

const (
	register action = iota
	drain
	remove
)

var actionNames = [...]string{register: "register", drain: "drain", remove: "deregister"}

// calls limits the calls that are in flight, by action. A call to register has up to 100 instances. A drain lasts until the
// container ends.
var calls = [...]int{register: 4, drain: 100, remove: 16}

// outbox brings the instances in Rollcall to the state of their containers. It holds the last wish of each container: a new
// wish replaces the former one. It makes one call at a time for a container, so calls reach Rollcall in the order of the
// wishes, and repeats failed ones. The wishes wait while Rollcall does not answer.
type outbox struct {
	api     *api.Client
	log     *slog.Logger
	settled func(id string, entry Entry, v api.Verdict) // called for the answer to each registration

	wake       chan struct{}
	mu         sync.Mutex
	wishes     map[string]*wish // by container
	inFlight   [len(calls)]int
	complained time.Time
}

// wish is the action that a container needs.
type wish struct {
	action  action
	entries []Entry
	hold    time.Duration // drain period

	version int // number of the wish of this container
	busy    bool
	cancel  context.CancelFunc // ends the drain in flight
	tries   int
	due     time.Time
}

func newOutbox(calls *api.Client, log *slog.Logger) *outbox {
	return &outbox{api: calls, log: log, wake: make(chan struct{}, 1), wishes: map[string]*wish{}}
}

// put replaces the wish of a container. A drain in flight ends: Rollcall has begun it.
func (o *outbox) put(id string, do action, entries []Entry, hold time.Duration) {
	if len(entries) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.wishes[id]
	if w == nil {
		w = &wish{}
		o.wishes[id] = w
	}
	w.action, w.entries, w.hold, w.tries, w.due = do, entries, min(hold, maxDrain), 0, time.Time{}
	w.version++
	if w.cancel != nil {
		w.cancel()
	}
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run makes the calls until the context ends.
func (o *outbox) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	timer := time.NewTimer(idleWait)
	defer timer.Stop()
	for {
		for o.startOne(ctx, &running) {
		}
		timer.Reset(o.next(time.Now()))
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		case <-timer.C:
		}
	}
}

// next returns the time until a call may be due.
func (o *outbox) next(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	wait := idleWait
	for _, w := range o.wishes {
		if !w.busy && w.due.After(now) {
			wait = min(wait, w.due.Sub(now))
		}
	}
	return wait
}

// startOne starts one call that is due, and reports whether there was one.
func (o *outbox) startOne(ctx context.Context, running *sync.WaitGroup) bool {
	c := o.take(ctx, time.Now())
	if c == nil {
		return false
	}
	running.Go(func() {
		defer c.cancel()
		c.make(c)
		o.done(c)
	})
	return true
}

// call is one call to Rollcall, for one container or, to register, for many.
type call struct {
	ctx    context.Context //nolint:containedctx // a wish ends the call of the former one
	cancel context.CancelFunc
	action action
	parts  []*part
	make   func(*call)
}

// part is a container's share of a call.
type part struct {
	id      string
	wish    *wish
	version int
	entries []Entry
	hold    time.Duration
	failed  []Entry // to be repeated
}

// take returns the next call, or nil if none is due or may be made now.
func (o *outbox) take(ctx context.Context, now time.Time) *call {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, w := range o.wishes {
		if w.busy || w.due.After(now) || o.inFlight[w.action] >= calls[w.action] {
			continue
		}
		o.inFlight[w.action]++
		return o.callFor(ctx, id, w, now)
	}
	return nil
}

func (o *outbox) callFor(ctx context.Context, id string, w *wish, now time.Time) *call {
	c := &call{action: w.action}
	c.ctx, c.cancel = context.WithTimeout(ctx, w.hold+answerWithin)
	c.add(id, w)
	switch w.action {
	case register:
		c.make = o.register
		o.fill(c, now)
	case drain:
		c.make, w.cancel = o.drain, c.cancel
	case remove:
		c.make = o.remove
	}
	return c
}

func (c *call) add(id string, w *wish) {
	w.busy = true
	c.parts = append(c.parts, &part{id: id, wish: w, version: w.version, entries: w.entries, hold: w.hold})
}

// fill adds other registrations that are due to a call. A new registration is not sent with one that has failed.
func (o *outbox) fill(c *call, now time.Time) {
	n, tries := len(c.parts[0].entries), c.parts[0].wish.tries
	for id, w := range o.wishes {
		if !w.busy && w.action == register && w.tries == tries && !w.due.After(now) && n+len(w.entries) <= batch {
			c.add(id, w)
			n += len(w.entries)
		}
	}
}

// done forgets the wishes that a call has fulfilled, and makes the others due again.
func (o *outbox) done(c *call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.inFlight[c.action]--
	for _, p := range c.parts {
		p.wish.busy, p.wish.cancel = false, nil
		switch {
		case p.wish.version != p.version: // a newer wish is due
		case p.failed == nil:
			delete(o.wishes, p.id)
		default:
			p.wish.entries = p.failed
			p.wish.due = time.Now().Add(min(firstRetry<<min(p.wish.tries, 10), lastRetry))
			p.wish.tries++
		}
	}
	o.signal()
}

// complain logs an error of calls that are repeated, every 10 s at most.
func (o *outbox) complain(ctx context.Context, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if errors.Is(err, context.Canceled) || time.Since(o.complained) < complainEach {
		return
	}
	o.complained = time.Now()
	o.log.WarnContext(ctx, "calls to Rollcall fail and are repeated", "waiting_containers", len(o.wishes), "err", err)
}

// register registers the instances of many containers. A container whose registration is refused does not affect the others.
func (o *outbox) register(c *call) {
	var entries []Entry
	for _, p := range c.parts {
		entries = append(entries, p.entries...)
	}
	verdicts, err := o.send(c.ctx, entries)
	if err != nil {
		o.complain(c.ctx, err)
		for _, p := range c.parts {
			p.failed = p.entries
		}
		return
	}
	for _, p := range c.parts {
		for n, v := range verdicts[:len(p.entries)] {
			if temporary(v.Status) {
				p.failed = append(p.failed, p.entries[n])
				continue
			}
			o.settled(p.id, p.entries[n], v)
		}
		verdicts = verdicts[len(p.entries):]
	}
}

func (o *outbox) send(ctx context.Context, entries []Entry) (api.Verdicts, error) {
	body, err := json.Marshal(entries)
	if err != nil {
		return nil, err
	}
	verdicts, err := api.Read[api.Verdicts](o.api.RegisterWithBody(ctx, &api.RegisterParams{}, "application/json", bytes.NewReader(body)))
	if err == nil && len(verdicts) != len(entries) {
		err = errors.New("the answer has another number of verdicts")
	}
	return verdicts, err
}

// temporary reports whether the same call may succeed later.
func temporary(status int) bool {
	return status >= http.StatusInternalServerError || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

// drain drains the instances of a container.
func (o *outbox) drain(c *call) {
	p := c.parts[0]
	hold := p.hold.String()
	o.each(c, func(entry Entry, boot string) (*http.Response, error) {
		return o.api.Drain(c.ctx, entry.ID(), &api.DrainParams{Hold: &hold, Boot: &boot})
	}, nil)
}

// remove deregisters the instances of a container.
func (o *outbox) remove(c *call) {
	o.each(c, func(entry Entry, boot string) (*http.Response, error) {
		return o.api.Deregister(c.ctx, entry.ID(), &api.DeregisterParams{Boot: &boot})
	}, func(entry Entry) { o.log.InfoContext(c.ctx, "instance removed", "instance", entry.ID()) })
}

// each makes a call for each instance of a container at once.
func (o *outbox) each(c *call, call func(entry Entry, boot string) (*http.Response, error), success func(Entry)) {
	p := c.parts[0]
	errs := make([]error, len(p.entries))
	var all sync.WaitGroup
	for n, entry := range p.entries {
		all.Go(func() {
			resp, err := api.Accepted(call(entry, entry.boot()))
			if errs[n] = err; err == nil {
				_ = resp.Body.Close()
			}
		})
	}
	all.Wait()
	for n, err := range errs {
		if err == nil && success != nil {
			success(p.entries[n])
		}
		o.judge(c, p.entries[n], err)
	}
}

// judge decides whether a failed call for an instance is repeated. Another start of the instance, or none, needs no call.
func (o *outbox) judge(c *call, entry Entry, err error) {
	p := c.parts[0]
	refused, answered := errors.AsType[*api.Error](err)
	switch {
	case err == nil || api.IsStatus(err, http.StatusNotFound) || api.IsStatus(err, http.StatusConflict):
	case answered && !temporary(refused.Status):
		o.log.WarnContext(c.ctx, "Rollcall refuses a call", "call", actionNames[c.action], "instance", entry.ID(), "err", err)
	default:
		p.failed = append(p.failed, entry)
		o.complain(c.ctx, err)
	}
}
