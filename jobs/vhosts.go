package jobs

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/jobs/schedule"
)

// compared is the approximate number of vhosts that one run of Compare checks: 20,000 vhosts take 4 s.
const compared = 10_000

// Vhosts has the duties of the owner of a vhost's shard. Each method works on the vhosts that owns reports as owned, and
// writes them under the terms of their shards.
type Vhosts interface {
	// Departures returns the departures of marked backends, by vhost and URL, and the time by the store's clock in ms.
	// The number of a departure is the end of the settle time by that clock; it identifies the departure.
	Departures(ctx context.Context, owns app.Owner) (now int64, departures map[string]map[string]int64, err error)
	// RemoveSettled removes the backends of departures. It returns the vhosts that the store refused because another
	// worker owns them.
	RemoveSettled(ctx context.Context, settled []app.Settled) (wrote int, refused []string, err error)
	// Compare repairs the frontends and marks of about budget vhosts. It begins after the last vhost of the previous call.
	Compare(ctx context.Context, owns app.Owner, budget int) (app.Comparison, error)
	// FindMarks looks for marks under the names of wildcards' children whose announcement all workers have missed.
	FindMarks(ctx context.Context, owns app.Owner) error
	// Reconcile compares instances and vhosts with all data derived from them.
	Reconcile(ctx context.Context, owns app.Owner) (app.Repairs, error)
}

// departure is the wait of a marked backend to be removed from the frontend of a vhost.
type departure struct {
	number int64
	began  int64 // on the worker's clock, ms
}

// departing identifies a marked backend of a vhost.
type departing struct{ host, url string }

// Settle removes each backend at the end of its settle time. It runs once a second. The settle time runs on the
// worker's own clock. After a hand-over the new owner continues with the elapsed time that the last owner flushed.
func (w *Worker) Settle(ctx context.Context) error {
	if w.Vhosts == nil {
		return nil
	}
	now, departures, err := w.Vhosts.Departures(ctx, w.Owns)
	if err != nil {
		return err
	}
	settled := w.settled(now, departures)
	if len(settled) == 0 {
		return nil
	}
	_, refused, err := w.Vhosts.RemoveSettled(ctx, settled)
	w.refused(refused)
	return err
}

// settled records departures, and returns the departures whose settle time is over. now is the store's time.
func (w *Worker) settled(now int64, departures map[string]map[string]int64) []app.Settled {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.setClock(now)
	ms := w.ms()
	w.dropDepartures(departures)
	var settled []app.Settled
	for host, leaving := range departures {
		if sh := w.shards[ownership.ShardOf(host)]; sh != nil {
			over := app.Settled{Host: host, Fence: sh.fence(), Departures: w.settledOf(sh, host, leaving, now, ms)}
			if len(over.Departures) > 0 || len(leaving) == 0 {
				settled = append(settled, over)
			}
		}
	}
	for _, sh := range w.shards {
		if sh != nil {
			sh.looked = ms
		}
	}
	w.settledAt = w.stepped
	return settled
}

// dropDepartures drops the recorded departures that the store does not have any more.
func (w *Worker) dropDepartures(departures map[string]map[string]int64) {
	for _, sh := range w.shards {
		if sh == nil {
			continue
		}
		for d, known := range sh.departures {
			if departures[d.host][d.url] != known.number {
				delete(sh.departures, d)
			}
		}
	}
}

// settledOf records the departures of a vhost, by URL, and returns the departures whose settle time is over at ms on the
// worker's clock. now is the store's time.
func (w *Worker) settledOf(sh *share, host string, leaving map[string]int64, now, ms int64) map[string]int64 {
	over := map[string]int64{}
	for url, number := range leaving {
		d := departing{host, url}
		known, is := sh.departures[d]
		if !is {
			known = departure{number, ms - w.age(sh, now, number)}
			if sh.departures == nil {
				sh.departures = map[departing]departure{}
			}
			sh.departures[d] = known
		}
		if ms-known.began >= w.SettleTime.Milliseconds() {
			over[url] = number
		}
	}
	return over
}

// age returns the age, in ms, of a departure that the worker sees for the first time. The departure began after the
// worker last read the departures of its shard. After a step of the store's clock the age is unknown, and age returns 0.
func (w *Worker) age(sh *share, now, number int64) int64 {
	if sh.looked == 0 || w.stepped != w.settledAt {
		return 0
	}
	return min(max(now-(number-w.SettleTime.Milliseconds()), 0), w.ms()-sh.looked)
}

// progressOf returns the id of a departure in the record of a shard. No instance id contains a space.
func progressOf(d departing) string { return "departure " + d.host + " " + d.url }

// departureOf returns the departure that an entry of a shard's record describes. It returns false for other entries.
func departureOf(p ownership.Progress, now int64) (departing, departure, bool) {
	rest, is := strings.CutPrefix(p.ID, "departure ")
	host, url, _ := strings.Cut(rest, " ")
	return departing{host, url}, departure{p.Changed, now - p.Elapsed}, is
}

// Compare repairs the frontends and marks of the worker's vhosts. It runs every 2 s, and at once when the worker
// receives announcements again after a gap. It probes each marked backend that should get traffic at once.
func (w *Worker) Compare(ctx context.Context) error {
	if w.Vhosts == nil {
		return nil
	}
	if err := w.findMarks(ctx); err != nil {
		return err
	}
	found, err := w.Vhosts.Compare(ctx, w.Owns, compared)
	w.refused(found.Refused)
	LogRepairs(ctx, w.Log, found.Repairs)
	for _, id := range found.Marked {
		if _, mine := w.Owns(id); mine {
			w.ProbeNow(id, true)
		} else if err := w.Registry.ProbeNow(ctx, id); err != nil {
			return err
		}
	}
	return err
}

// findMarks searches for marks once after the worker has gained shards.
func (w *Worker) findMarks(ctx context.Context) error {
	if !w.search.Swap(false) {
		return nil
	}
	err := w.Vhosts.FindMarks(ctx, w.Owns)
	if err != nil {
		w.search.Store(true)
	}
	return err
}

// Listening looks for the marks that proxies announced while the worker did not listen.
func (w *Worker) Listening(ctx context.Context) {
	w.search.Store(true)
	if err := w.Compare(ctx); err != nil && ctx.Err() == nil {
		w.Log.WarnContext(ctx, "cannot look for missed marks yet", "err", err)
	}
}

// Reconcile compares the worker's instances and vhosts with the frontends and indexes derived from them.
func (w *Worker) Reconcile(ctx context.Context) error {
	if w.Vhosts == nil {
		return nil
	}
	repairs, err := w.Vhosts.Reconcile(ctx, w.Owns)
	LogRepairs(ctx, w.Log, repairs)
	return err
}

// LogRepairs logs the repairs of a comparison, if it made any.
func LogRepairs(ctx context.Context, log *slog.Logger, repairs app.Repairs) {
	if !repairs.None() {
		log.WarnContext(ctx, "repaired differences between the registry and the frontends", "lists", repairs.Lists,
			"wrong_type", repairs.WrongType, "instances", repairs.Instances, "orphans", repairs.Orphans)
	}
}

// refused makes the next call of Own ask for all shards and terms if the store refused writes.
func (w *Worker) refused(refused []string) {
	if len(refused) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.member.RequestFull()
}

// vhostJobs returns the worker's jobs for its vhosts.
func (w *Worker) vhostJobs() []schedule.Job {
	return []schedule.Job{
		{Name: "compact", Every: time.Second, Timeout: 10 * time.Second, Run: w.Settle},
		{Name: "compare", Every: 2 * time.Second, Timeout: 10 * time.Second, Run: w.Compare},
		{Name: "reconcile", Every: 30 * time.Second, Timeout: time.Minute, Run: w.Reconcile},
	}
}
