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
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// countPath is where a target says how many requests it has answered.
const countPath = "/count"

// runTarget is the process of a target: it answers 200 to every request and counts them.
func runTarget(ctx context.Context) error {
	l, err := (&net.ListenConfig{Control: onLoopback}).Listen(ctx, "tcp4", "0.0.0.0:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "{\"msg\":\"target is up\",\"addr\":%q}\n", strings.Replace(l.Addr().String(), "0.0.0.0", "127.0.0.1", 1))
	context.AfterFunc(ctx, func() { _ = l.Close() })
	var answered atomic.Int64
	for ctx.Err() == nil {
		if c, err := l.Accept(); err == nil {
			go answer(c, &answered)
		}
	}
	return nil
}

func answer(c net.Conn, answered *atomic.Int64) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 2048)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		body := "ok"
		if strings.HasPrefix(string(line), "GET "+countPath+" ") {
			body = strconv.FormatInt(answered.Load(), 10)
		} else {
			answered.Add(1)
		}
		closing := strings.Contains(string(line), "HTTP/1.0")
		for {
			if line, err = in.ReadSlice('\n'); err != nil {
				return
			}
			if len(line) <= 2 {
				break
			}
			closing = closing || strings.HasPrefix(strings.ToLower(string(line)), "connection: close")
		}
		head := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
		if closing {
			head += "Connection: close\r\n"
		}
		if _, err := c.Write([]byte(head + "\r\n" + body)); err != nil || closing {
			return
		}
	}
}

// runAsk asks a URL so many times a second.
func runAsk(ctx context.Context, url, perSecond string) error {
	rate, err := strconv.Atoi(perSecond)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 5 * time.Second}
	var asking sync.WaitGroup
	defer asking.Wait()
	for tick := time.NewTicker(time.Second / time.Duration(rate)); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			asking.Go(func() {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				if err != nil {
					return
				}
				if resp, err := client.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			})
		}
	}
}
