package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// spec is the work of the load generator: calls over kept connections, each one waiting for its answer. In path and body
// {n} stands for the number of an instance, and {address} for the first three bytes of its own loopback address.
type spec struct {
	Addr   string
	Etcd   string // a verb of etcdCaller instead of HTTP
	Conns  int
	For    time.Duration
	Calls  int // instead of For
	Method string
	Path   string
	Body   string
	Host   string
	Batch  int // bodies in an array; 0: one, bare
	Known  int // numbers at random below this; 0: every number is new
	From   int // the first number
}

// loaded is the result of a load.
type loaded struct {
	Calls, Errors int
	FirstError    string
	Seconds       float64
	P50, P99      float64 // ms
	Next          int     // the first number that is still new
}

func (l loaded) rate() float64 { return float64(l.Calls-l.Errors) / l.Seconds }

// runLoad is the load generator's process.
func runLoad(ctx context.Context, text string) error {
	var s spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s.run(ctx))
}

// caller makes one call.
type caller func(n int) error

func (s spec) caller(ctx context.Context) (caller, io.Closer, error) {
	if s.Etcd != "" {
		return etcdCaller(s.Addr, s.Etcd)
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, nil, err
	}
	return s.httpCaller(c), c, nil
}

func (s spec) run(ctx context.Context) (r loaded) {
	var next, left atomic.Int64
	next.Store(int64(s.From))
	left.Store(int64(s.Calls))
	var mu sync.Mutex
	var took []time.Duration
	var conns sync.WaitGroup
	ready := make(chan struct{})
	began := time.Now()
	var opened sync.WaitGroup
	for range s.Conns {
		opened.Add(1)
		conns.Go(func() {
			call, closer, err := s.caller(ctx)
			opened.Done()
			<-ready
			var mine []time.Duration
			failed := 0
			if err == nil {
				defer closer.Close()
			}
			for ctx.Err() == nil && err == nil {
				if s.Calls > 0 && left.Add(-1) < 0 || s.Calls == 0 && time.Since(began) >= s.For {
					break
				}
				var n int
				if s.Known > 0 {
					n = rand.IntN(s.Known)
				} else {
					n = int(next.Add(int64(max(1, s.Batch)))) - max(1, s.Batch)
				}
				asked := time.Now()
				err = call(n)
				mine = append(mine, time.Since(asked))
				if _, refused := errors.AsType[*statusError](err); refused { // the connection is good
					failed++
					mu.Lock()
					r.FirstError = err.Error()
					mu.Unlock()
					err = nil
				}
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			r.Errors += failed
			if err != nil {
				r.Errors++
				r.FirstError = err.Error()
			}
		})
	}
	opened.Wait()
	began = time.Now()
	close(ready)
	conns.Wait()
	r.Seconds = time.Since(began).Seconds()
	r.Calls, r.Next = len(took), int(next.Load())
	slices.Sort(took)
	if len(took) > 0 {
		r.P50, r.P99 = ms(took[len(took)/2]), ms(took[len(took)*99/100])
	}
	return r
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// statusError is an answer that says no.
type statusError struct {
	status int
	body   string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.body) }

// fillIn gives a text the numbers of an instance.
func fillIn(text string, n int) string {
	if !strings.Contains(text, "{") {
		return text
	}
	return strings.NewReplacer("{n}", strconv.Itoa(n), "{address}", addressOf(n)).Replace(text)
}

// addressOf is three bytes of an address that ends neither in 0 nor in 255.
func addressOf(n int) string { return fmt.Sprintf("%d.%d.%d", 1+n/62500, n/250%250, 1+n%250) }

// httpCaller makes calls over one connection. fasthttp needs few instructions: it shares the machine with the measured program.
func (s spec) httpCaller(c net.Conn) caller {
	client := &fasthttp.HostClient{
		Addr: s.Addr, MaxConns: 1, MaxIdemponentCallAttempts: 1, NoDefaultUserAgentHeader: true, ReadTimeout: patience, WriteTimeout: patience,
		Dial: func(string) (net.Conn, error) { return c, nil },
	}
	var req fasthttp.Request
	var resp fasthttp.Response
	req.Header.SetMethod(s.Method)
	if s.Body != "" {
		req.Header.SetContentType("application/json")
	}
	return func(n int) error {
		req.SetRequestURI("http://" + cmp.Or(s.Host, s.Addr) + fillIn(s.Path, n))
		req.SetBodyString(s.body(n))
		if err := client.Do(&req, &resp); err != nil {
			return err
		}
		if status := resp.StatusCode(); status >= 300 {
			return &statusError{status, string(resp.Body()[:min(len(resp.Body()), 300)])}
		}
		return nil
	}
}

// body is that of the call of an instance, or of a batch that begins with it.
func (s spec) body(n int) string {
	if s.Batch == 0 {
		return fillIn(s.Body, n)
	}
	entries := make([]string, s.Batch)
	for i := range entries {
		if s.Known > 0 {
			n %= s.Known
		}
		entries[i] = fillIn(s.Body, n)
		n++
	}
	return "[" + strings.Join(entries, ",") + "]"
}
