package schedule_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"rollcall/jobs/schedule"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs jobs in a bubble. It returns a function that ends them, and the log.
func start(t *testing.T, list ...schedule.Job) (stop func(), log *strings.Builder) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log = &strings.Builder{}
	var running sync.WaitGroup
	running.Go(func() { schedule.NewRunner(slog.New(slog.NewTextHandler(log, nil)), list...).Run(ctx) })
	return func() { cancel(); running.Wait() }, log
}

func TestJobsRunAtOnceAndThenOnSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		stop, _ := start(t, schedule.Job{Name: "steady", Every: 10 * time.Second, Timeout: time.Second, Run: func(context.Context) error {
			runs++
			return nil
		}})
		time.Sleep(time.Minute + time.Second)
		stop()
		if runs != 7 {
			t.Errorf("%d runs in a minute and a second, one every ten seconds and one at once, want 7", runs)
		}
	})
}

func TestAJobThatPanicsRunsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		stop, log := start(t, schedule.Job{Name: "shaky", Every: 10 * time.Second, Timeout: time.Second, Run: func(context.Context) error {
			runs++
			panic("at the disco")
		}})
		time.Sleep(time.Minute + time.Second)
		stop()
		if runs != 7 {
			t.Errorf("%d runs of a job that always panics, want 7", runs)
		}
		if !strings.Contains(log.String(), "at the disco") {
			t.Errorf("the panic is not in the log: %s", log)
		}
	})
}

func TestAJobDoesNotOverlapItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs, at, most := 0, 0, 0
		stop, log := start(t, schedule.Job{Name: "slow", Every: time.Second, Timeout: time.Minute, Run: func(context.Context) error {
			runs++
			at++
			most = max(most, at)
			time.Sleep(3500 * time.Millisecond)
			at--
			return nil
		}})
		time.Sleep(12 * time.Second)
		stop()
		if most != 1 || runs < 3 {
			t.Errorf("%d runs, up to %d at once, want at least 3, one at a time", runs, most)
		}
		if !strings.Contains(log.String(), "tick dropped") {
			t.Errorf("a dropped tick is not in the log: %s", log)
		}
	})
}

func TestARunIsOverAtItsTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var errs []error
		stop, _ := start(t, schedule.Job{Name: "stuck", Every: time.Minute, Timeout: 5 * time.Second, Run: func(ctx context.Context) error {
			<-ctx.Done()
			errs = append(errs, ctx.Err())
			return ctx.Err()
		}})
		time.Sleep(6 * time.Second)
		stop()
		if len(errs) != 1 || !errors.Is(errs[0], context.DeadlineExceeded) {
			t.Errorf("a run that takes for ever ended with %v, want its deadline", errs)
		}
	})
}

func TestAFailureIsLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		stop, log := start(t, schedule.Job{Name: "sick", Every: time.Second, Timeout: time.Second, Run: func(context.Context) error {
			if time.Since(began) < 30*time.Second {
				return errors.New("no luck")
			}
			return nil
		}})
		time.Sleep(time.Minute)
		stop()
		if n := strings.Count(log.String(), "job failed"); n != 1 {
			t.Errorf("the log says %d times that the job failed, want once: %s", n, log)
		}
		if n := strings.Count(log.String(), "job works again"); n != 1 {
			t.Errorf("the log says %d times that the job works again, want once: %s", n, log)
		}
	})
}

func TestRunWaitsForTheLastRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := false
		stop, _ := start(t, schedule.Job{Name: "long", Every: time.Minute, Timeout: time.Minute, Run: func(context.Context) error {
			time.Sleep(10 * time.Second) // ignores its context
			ended = true
			return nil
		}})
		time.Sleep(time.Second)
		stop()
		if !ended {
			t.Error("Run returned while a job was running")
		}
	})
}

func TestRunOnceRunsTheNamedJob(t *testing.T) {
	t.Parallel()
	ran := ""
	job := func(name string) schedule.Job {
		return schedule.Job{Name: name, Every: time.Hour, Timeout: time.Second, Run: func(context.Context) error {
			ran += name
			return nil
		}}
	}
	r := schedule.NewRunner(slog.New(slog.DiscardHandler), job("a"), job("b"))
	if err := r.RunOnce(t.Context(), "b"); err != nil || ran != "b" {
		t.Errorf("RunOnce(b) ran %q and returned %v", ran, err)
	}
	if err := r.RunOnce(t.Context(), "c"); !errors.Is(err, schedule.ErrUnknownJob) {
		t.Errorf("RunOnce of an unknown job returned %v, want ErrUnknownJob", err)
	}
}
