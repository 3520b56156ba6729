// Floor has the least programs that do Rollcall's work, as a measure: registrations with one EVALSHA each, reads of an
// encoded answer, probes in slots, a reverse proxy with one read of Redis, and an idle service with a schedule.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

// run runs one floor: NAME REDIS-ADDRESS, or probe TARGET-PORT TARGETS PER-SECOND.
func run(ctx context.Context, args []string) error {
	if len(args) == 4 && args[0] == "probe" {
		return probe(ctx, args[1], args[2], args[3])
	}
	if len(args) != 2 {
		return fmt.Errorf("usage: floor register|batched|read|proxy|program REDIS, or floor probe PORT TARGETS PER-SECOND")
	}
	rdb := redis.NewClient(&redis.Options{Addr: args[1], PoolSize: 64})
	defer rdb.Close()
	if err := rdb.Ping(ctx).Err(); err != nil {
		return err
	}
	h, err := handler(ctx, args[0], rdb)
	if err != nil {
		return err
	}
	return serve(ctx, h)
}

func handler(ctx context.Context, name string, rdb *redis.Client) (http.Handler, error) {
	switch name {
	case "register":
		return registrations(rdb, rdb), nil
	case "batched":
		batched, err := rdb.AutoPipeline()
		if err != nil {
			return nil, err
		}
		return registrations(rdb, batched), nil
	case "read":
		return reads(ctx, rdb)
	case "proxy":
		return proxy(rdb), nil
	case "program":
		return program(ctx, rdb), nil
	}
	return nil, fmt.Errorf("there is no floor %q", name)
}

// serve says where it listens, as Rollcall's log does.
func serve(ctx context.Context, h http.Handler) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "{\"msg\":\"floor is up\",\"addr\":%q}\n", l.Addr())
	server := &http.Server{Handler: h}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	_ = server.Serve(l)
	return nil
}

// router is an Echo that tells callers no more than the status of an error.
func router() *echo.Echo {
	e := echo.New()
	e.HideBanner = true
	return e
}
