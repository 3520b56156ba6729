package jobs_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rollcall/app"
)

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFiring measures the cost of a worker for each probe, without the probe itself: the prober
// answers at once.
func BenchmarkFiring(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			g := newMemoryStore()
			for k := range n {
				i := healthy(fmt.Sprintf("instance-%d", k))
				i.Address = fmt.Sprintf("10.%d.%d.%d:80", k>>16&255, k>>8&255, k&255)
				g.instances[i.ID] = i
			}
			var fired atomic.Int64
			w := g.start(b, proberFunc(func(context.Context, app.Instance) app.Result {
				fired.Add(1)
				return app.Result{At: time.Now(), Passed: true, Latency: time.Millisecond}
			}))
			for w.Stats().Instances < n {
				time.Sleep(10 * time.Millisecond)
			}
			g.instances = nil
			time.Sleep(2500 * time.Millisecond)
			runtime.GC()
			runtime.ReadMemStats(&after)
			used, began, at := cpu(), fired.Load(), time.Now()
			time.Sleep(6 * time.Second)
			done := fired.Load() - began
			b.ReportMetric(float64(cpu()-used)/float64(done), "ns-cpu/firing")
			b.ReportMetric(float64(done)/time.Since(at).Seconds(), "firings/s")
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/instance")
			w.stop()
		})
	}
}
