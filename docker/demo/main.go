// Command demo is the application that service discovery was once explained with, in
// its two roles:
//
//	curl ─▶ edge ─▶ demo client ──GET /v1/services/service──▶ Rollcall
//	                    │       ◀───── who serves ───────────
//	                    └─POST /entry─▶ demo service ──GET /v1/services/memcached──▶ Rollcall
//	                                        └─ append, get ─▶ memcached
//
// GET /demo at a client sends a random number to a service, which appends it to a list
// in memcached; the answer is the list. Every entry says which client and which service
// handled it. Neither role knows an address but Rollcall's, and neither knows that it
// is registered: that is the business of the hook that starts it.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// shutdownGrace is how long requests under way have to end. docker stop waits 10 s, and
// the hook has spent some of it before this process is told.
const shutdownGrace = 4 * time.Second

type config struct {
	listen, admin string // host:port of the role, and of its health
	name          string // how it signs entries
	rollcall      string // base URL
	token         string // for it; may be empty
}

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], log)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, log *slog.Logger) error {
	if len(args) == 0 {
		return errors.New("say which role: demo client or demo service (-h for the flags)")
	}
	role := args[0]
	c := config{rollcall: "http://127.0.0.1:8080", token: cmp.Or(os.Getenv("DEMO_TOKEN"), os.Getenv("ROLLCALL_TOKEN"))} // the hook keeps ROLLCALL_TOKEN
	if u := os.Getenv("ROLLCALL_URL"); u != "" {
		c.rollcall = u
	}
	hostname, _ := os.Hostname() // in a container its id
	flags := flag.NewFlagSet("demo "+role, flag.ContinueOnError)
	flags.StringVar(&c.listen, "listen", ":8080", "`host:port` to serve on")
	flags.StringVar(&c.admin, "admin", ":8081", "`host:port` of /healthcheck")
	flags.StringVar(&c.name, "name", hostname, "what entries are signed with")
	if err := flags.Parse(args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	var handler http.Handler
	switch role {
	case "client":
		handler = newClient(c, log)
	case "service":
		s := newService(c, log)
		defer s.close()
		handler = s
	default:
		return fmt.Errorf("there is no role %q: demo client or demo service", role)
	}
	return serve(ctx, c, role, handler, log.With("role", role, "name", c.name))
}

// serve runs the role and its health until ctx is over, and lets requests under way end.
func serve(ctx context.Context, c config, role string, handler http.Handler, log *slog.Logger) error {
	health := http.NewServeMux()
	health.HandleFunc("GET /healthcheck", healthcheck(role))
	servers := map[string]*http.Server{
		c.listen: {Handler: handler, ReadHeaderTimeout: 5 * time.Second},
		c.admin:  {Handler: health, ReadHeaderTimeout: 5 * time.Second},
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	defer running.Wait()
	for addr, server := range servers {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			cancel(nil)
			return err
		}
		running.Go(func() {
			<-ctx.Done()
			grace, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
			defer done()
			if server.Shutdown(grace) != nil {
				_ = server.Close()
			}
		})
		running.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				cancel(err)
			}
		})
	}
	log.InfoContext(ctx, "demo is up", "listen", c.listen, "admin", c.admin)
	<-ctx.Done()
	log.InfoContext(ctx, "demo ends")
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// healthcheck answers 200 as long as this process can serve. It leaves out what the
// role depends on: when the one memcached of all services is down, a check that asked
// for it would take all of them out at once, a problem that removing instances cannot
// solve, and users would get the proxy's error instead of one that says what is wrong.
// memcached has a check of its own.
//
// The answer is the role. Who registers with ROLLCALL_EXPECT=client is not taken for
// alive when a service has inherited the address of a client that died.
func healthcheck(role string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, role) //nolint:gosec // one of two words
	}
}
