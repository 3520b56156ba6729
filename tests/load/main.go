// Load measures Rollcall side by side with floors, the least programs that do the same (folder floor), and with peers:
// haproxy, etcd and blackbox_exporter. Sides take turns, so each figure is a ratio of runs of the same minute on the same
// machine.
//
//	go run .            every step, then the report; BENCH=quick for a short one
//	go run . STEP...    only some steps
//	go run . report     write the figures of docs/benchmarks.md, docs/scaling.md and README.md again
//
// It is a module of its own, so that the product's go.mod lists only the product's requirements.
//
// Servers, Redis, targets and load generators are separate processes on loopback. A step writes results/STEP.json after
// every round.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

type step struct {
	name string
	run  func(*bench) error
}

// steps are in the order in which they are run.
var steps = []step{
	{"start", startStep},
	{"registrations", registrationsStep},
	{"reads", readsStep},
	{"changes", changesStep},
	{"edge", edgeStep},
	{"verdicts", verdictsStep},
	{"routes", routesStep},
	{"probes", probesStep},
	{"workers", workersStep},
	{"network", networkStep},
	{"burst", burstStep},
	{"growth", growthStep},
	{"tracking", trackingStep},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if is, err := role(ctx, args); is {
		return err
	}
	dir := folder()
	if len(args) == 1 && args[0] == "report" {
		return report(dir)
	}
	p, ok := paces[cmp.Or(os.Getenv("BENCH"), "full")]
	if !ok {
		return fmt.Errorf("BENCH is %q: give full or quick", os.Getenv("BENCH"))
	}
	for _, name := range args {
		if !slices.ContainsFunc(steps, func(s step) bool { return s.name == name }) {
			return fmt.Errorf("there is no step %q", name)
		}
	}
	return errors.Join(measure(ctx, p, dir, args), report(dir)) // also after an interrupt
}

// role is the work of this program as a child process.
func role(ctx context.Context, args []string) (is bool, err error) {
	switch {
	case len(args) == 2 && args[0] == "load":
		return true, runLoad(ctx, args[1])
	case len(args) == 4 && args[0] == "worker":
		return true, runWorker(ctx, args[1], args[2], args[3])
	case len(args) == 1 && args[0] == "target":
		return true, runTarget(ctx)
	case len(args) == 3 && args[0] == "ask":
		return true, runAsk(ctx, args[1], args[2])
	case len(args) == 4 && args[0] == "tracked":
		return true, runTracked(ctx, args[1], args[2], args[3])
	}
	return false, nil
}

// folder is where this program's source is: results are kept beside it.
func folder() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// measure runs steps, all of them when none is named. One that fails is named and does not
// stop the others.
func measure(ctx context.Context, p pace, dir string, names []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bin, err := os.MkdirTemp("", "load")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	for module, program := range map[string]string{filepath.Join(dir, "../.."): "./app/cmd/rollcall", dir: "./floor"} {
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, program)
		build.Dir, build.Env, build.Stderr = module, append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("go build %s: %w", program, err)
		}
	}
	var failed []string
	for _, s := range steps {
		if len(names) > 0 && !slices.Contains(names, s.name) || ctx.Err() != nil {
			continue
		}
		b := &bench{pace: p, bin: bin, self: self, results: newResults(filepath.Join(dir, "results"), s.name, p.Name)}
		fmt.Printf("%s: %s\n", time.Now().Format(time.TimeOnly), s.name)
		if err := b.run(ctx, s.run); err != nil {
			b.results.fail(s.name, err)
			failed = append(failed, s.name)
		}
		if err := b.results.save(); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		fmt.Printf("these steps were not finished: %s\n", strings.Join(failed, ", "))
	}
	return ctx.Err()
}

// run runs one step, and ends its processes.
func (b *bench) run(ctx context.Context, step func(*bench) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	b.ctx = ctx
	defer b.started.Wait()
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return errors.Join(step(b), ctx.Err())
}
