//go:build unix

package entrypoint

import (
	"context"
	"errors"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"rollcall/app"
)

// phase is the hook's relation to its running command.
type phase int

const (
	running   phase = iota // signals reach the command
	awaitTurn              // a link has moved: the command waits for its turn to restart
	draining               // a stop signal has come: the drain period runs
	hurried                // a second stop signal has come: signals reach the command
)

// supervisor passes signals to one running command, and drains it before the first stop signal reaches it.
type supervisor struct {
	*hook
	process   *os.Process
	tty       terminal
	stopAgent func()

	phase   phase
	turn    <-chan struct{} // closed when the command may restart
	endTurn func()

	first   os.Signal          // stop signal that began the drain
	drained <-chan struct{}    // closed when the drain period is over, also after a failed drain; nil: no signal is due
	cancel  context.CancelFunc // ends the drain
	noted   bool               // Rollcall has drained the instance or does not know it; read after drains
	drains  sync.WaitGroup
}

// supervise returns the command's exit code when it has ended.
func (s *supervisor) supervise(signals <-chan os.Signal, changed <-chan struct{}, ended <-chan syscall.WaitStatus) int {
	for {
		select {
		case received := <-signals:
			if received != syscall.SIGPIPE || brokenPipes.sent() {
				s.signal(received)
			}
		case <-changed:
			s.linksChanged()
		case <-s.turn:
			s.turn = nil
			if s.phase == awaitTurn {
				s.phase = running
				s.signal(s.onChange)
			}
		case <-s.drained:
			s.drained = nil
			s.tty.send(s.process, s.first)
		case status := <-ended:
			code := exitCode(status)
			s.ended(code)
			return code
		}
	}
}

// signal passes a signal to the command. The first stop signal of a registered command begins the drain, and reaches the
// command at its end. The second one reaches the command at once.
func (s *supervisor) signal(received os.Signal) {
	if s.stops[received] {
		if s.phase < draining && s.unregistered == "" {
			s.beginDrain(received)
			return
		}
		s.phase, s.drained = hurried, nil
	}
	s.tty.send(s.process, received)
}

// linksChanged tells the command that its links have changed. If the signal stops the command, the instances of the
// service take turns.
func (s *supervisor) linksChanged() {
	switch {
	case s.phase != running: // it ends or restarts anyway
	case s.stops[s.onChange] && s.unregistered == "":
		s.phase = awaitTurn
		s.turn, s.endTurn = s.takeTurns()
	default:
		s.signal(s.onChange)
	}
}

func (s *supervisor) beginDrain(first os.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), s.drainPeriod+3*time.Second)
	drained := make(chan struct{})
	s.phase, s.first, s.cancel, s.drained = draining, first, cancel, drained
	s.log("%s: draining %s", signalName(first), s.id)
	s.drains.Go(func() {
		defer close(drained)
		s.stopAgent()
		switch a := s.drain(ctx); {
		case a.ok():
			s.log("drained %s", s.id)
		case !errors.Is(ctx.Err(), context.Canceled): // by the end of the command
			s.notDrained(a)
		}
	})
}

// drain drains the instance, and retries while Rollcall does not answer: a web process may die, and another one takes
// over. It returns when the drain period is over, also after a failure: requests in progress need the time.
func (s *supervisor) drain(ctx context.Context) (a answer) {
	end := time.Now().Add(s.drainPeriod)
	for {
		a = s.unlessRestarted(ctx, func() answer {
			return s.api.drain(ctx, s.id, s.form.Get("boot"), max(0, time.Until(end).Round(time.Millisecond)))
		})
		if s.noted = a.ok() || a.status == http.StatusNotFound; s.noted {
			return a
		}
		pause := time.Until(end)
		if a.temporary() {
			pause = min(pause, firstBackoff)
		}
		if pause <= 0 {
			return a
		}
		if app.Sleep(ctx, pause) != nil || !a.temporary() {
			return a
		}
	}
}

// ended deregisters the instance of a command that has ended, unless it was drained.
func (s *supervisor) ended(code int) {
	wait := 3 * time.Second
	if s.phase < draining {
		s.stopAgent()
	} else if s.cancel != nil {
		wait = time.Second // the sender of the stop signal waits
		s.cancel()
		s.drains.Wait()
	}
	if s.noted || s.unregistered != "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	a := s.unlessRestarted(ctx, func() answer { return s.api.deregister(ctx, s.id, s.form.Get("boot")) })
	switch {
	case a.ok():
		s.log("%s is gone: the command ended with %d", s.id, code)
	case s.first == nil:
		s.notDrained(a)
	}
}

// unlessRestarted makes a call that takes the instance out of service, unless another container has registered with the
// id: then it returns 404.
func (s *supervisor) unlessRestarted(ctx context.Context, call func() answer) answer {
	reading, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	a := s.api.get(reading, s.id)
	mayNotRead := a.status == http.StatusUnauthorized || a.status == http.StatusForbidden
	switch {
	case a.ok() && a.Boot == s.form.Get("boot"), mayNotRead:
		if a = call(); a.status != http.StatusConflict {
			return a
		}
		fallthrough // it restarted meanwhile
	case a.ok():
		s.log("%s was started anew elsewhere: left alone", s.id)
		return answer{status: http.StatusNotFound}
	}
	return a
}

// notDrained logs why the instance may still be in service.
func (s *supervisor) notDrained(a answer) {
	if a.status != http.StatusNotFound { // an instance that was never registered needs no line
		s.log("could not drain %s: %s", s.id, a.reason())
	}
}
