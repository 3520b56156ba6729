// Package schedule repeats jobs. robfig/cron provides the schedule. The Runner adds four guarantees: a job never
// overlaps itself, a run has a timeout, a panic fails one run only, and Run waits for the last run.
package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
)

// Job is work that the Runner repeats. Run returns when the work is done, or soon after
// its context ends.
type Job struct {
	Name    string
	Every   time.Duration // whole seconds
	Timeout time.Duration // of one run
	Run     func(context.Context) error
}

// ErrUnknownJob means that no job has that name.
var ErrUnknownJob = errors.New("unknown job")

// Runner runs jobs on their schedules.
type Runner struct {
	log  *slog.Logger
	jobs []*entry
}

type entry struct {
	Job
	busy    chan struct{} // holds one value while the job runs
	failing bool          // the last run failed; guarded by busy
}

// NewRunner returns a runner of the given jobs. No job starts before Run.
func NewRunner(log *slog.Logger, jobs ...Job) *Runner {
	r := &Runner{log: log}
	for _, j := range jobs {
		r.jobs = append(r.jobs, &entry{Job: j, busy: make(chan struct{}, 1)})
	}
	return r
}

// Names lists the names of the jobs.
func (r *Runner) Names() []string {
	names := make([]string, len(r.jobs))
	for n, j := range r.jobs {
		names[n] = j.Name
	}
	return names
}

// Run runs every job at once and then on schedule, until ctx ends. It returns when the last run
// has ended.
func (r *Runner) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, j := range r.jobs {
		running.Go(func() { r.repeat(ctx, j, &running) })
	}
	running.Go(func() { // in sequence, to limit the load at start
		for _, j := range r.jobs {
			r.tick(ctx, j)
		}
	})
	running.Wait()
}

// repeat starts a job on its schedule until ctx ends. A cron.Cron compares wall clocks: if the machine's clock steps back by
// an hour, it starts no job for an hour.
func (r *Runner) repeat(ctx context.Context, j *entry, running *sync.WaitGroup) {
	for {
		select {
		case <-time.After(time.Until(j.next())):
			running.Go(func() { r.tick(ctx, j) })
		case <-ctx.Done():
			return
		}
	}
}

// next returns the time of the next run, with a reading of the monotonic clock.
func (j *entry) next() time.Time { return cron.Every(j.Every).Next(time.Now()) }

// RunOnce runs a job now. It first waits for a run in progress to end.
func (r *Runner) RunOnce(ctx context.Context, name string) error {
	for _, j := range r.jobs {
		if j.Name == name {
			select {
			case j.busy <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			defer func() { <-j.busy }()
			return r.once(ctx, j)
		}
	}
	return fmt.Errorf("%w %q", ErrUnknownJob, name)
}

// tick runs a job unless it is still running. It logs the first failure in a row only, and the
// first success after it.
func (r *Runner) tick(ctx context.Context, j *entry) {
	if ctx.Err() != nil {
		return
	}
	select {
	case j.busy <- struct{}{}:
		defer func() { <-j.busy }()
	default:
		r.log.WarnContext(ctx, "job still running, tick dropped", "job", j.Name)
		return
	}
	err := r.once(ctx, j)
	if ctx.Err() == nil && (err != nil) != j.failing {
		r.logChange(ctx, j, err)
	}
	j.failing = err != nil
}

// logChange logs that a job has begun to fail, or works again.
func (r *Runner) logChange(ctx context.Context, j *entry, err error) {
	if err != nil {
		r.log.ErrorContext(ctx, "job failed", "job", j.Name, "err", err)
		return
	}
	r.log.InfoContext(ctx, "job works again", "job", j.Name)
}

func (r *Runner) once(ctx context.Context, j *entry) (err error) {
	ctx, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			r.log.ErrorContext(ctx, "job panicked", "job", j.Name, "panic", p)
		}
	}()
	return j.Run(ctx)
}
