package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	slot    = 100 * time.Millisecond
	timeout = time.Second
	most    = 8192 // probes at once
)

// probe sends rate probes a second, each over its own connection. The probes of a slot start together.
func probe(ctx context.Context, port, targets, perSecond string) error {
	n, err := strconv.Atoi(targets)
	if err != nil {
		return err
	}
	rate, err := strconv.Atoi(perSecond)
	if err != nil {
		return err
	}
	request := []byte("GET / HTTP/1.1\r\nHost: target\r\nConnection: close\r\n\r\n")
	dialer := &net.Dialer{KeepAlive: -1}
	fmt.Fprintln(os.Stderr, `{"msg":"floor is up","addr":"127.0.0.1:0"}`)

	var probes sync.WaitGroup
	var busy, failed atomic.Int64
	began, started := time.Now(), 0
	for tick := time.NewTicker(slot); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick.C:
			for wanted := int(time.Since(began).Seconds() * float64(rate)); started < wanted; started++ {
				if busy.Load() >= most {
					began = began.Add(time.Duration(float64(wanted-started) / float64(rate) * float64(time.Second)))
					break // a full slot drops the rest
				}
				address := "127." + addressOf(started%n) + ":" + port
				busy.Add(1)
				probes.Go(func() {
					defer busy.Add(-1)
					if ask(ctx, dialer, address, request) != nil {
						failed.Add(1)
					}
				})
			}
		}
	}
	probes.Wait()
	fmt.Fprintf(os.Stderr, "%d failed\n", failed.Load())
	return nil
}

// addressOf is the end of the loopback address of a target.
func addressOf(n int) string {
	return fmt.Sprintf("%d.%d.%d", 1+n/62500, n/250%250, 1+n%250)
}

var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

func ask(ctx context.Context, dialer *net.Dialer, address string, request []byte) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := c.Write(request); err != nil {
		return err
	}
	in := readers.Get().(*bufio.Reader)
	defer readers.Put(in)
	in.Reset(c)
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	_, err = in.WriteTo(io.Discard)
	return err
}
