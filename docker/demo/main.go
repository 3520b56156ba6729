// Command demo is an example of service discovery, in two roles:
//
//	curl ─▶ edge ─▶ demo client ──GET /v1/services/service──▶ Rollcall
//	                    │       ◀──── healthy services ──────
//	                    └─POST /entry─▶ demo service ──GET /v1/services/memcached──▶ Rollcall
//	                                        └─ append, get ─▶ memcached
//
// GET /demo at a client sends a random number to a service, which appends it to a list
// in memcached. The answer is the list. Each entry names the client and the service that
// handled it. A role knows only the address of Rollcall. It does not register itself: the hook
// that starts it does.
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

// shutdownGrace limits the requests in flight at the end. docker stop waits 10 s, and the hook has
// spent some of that time before this process gets the signal.
const shutdownGrace = 4 * time.Second

type config struct {
	listen, admin string // host:port of the role and of its health check
	name          string // signature of entries
	rollcall      string // base URL of Rollcall
	token         string // bearer token for Rollcall; may be empty
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
	c := config{rollcall: "http://127.0.0.1:8080", token: cmp.Or(os.Getenv("DEMO_TOKEN"), os.Getenv("ROLLCALL_TOKEN"))} // the hook removes ROLLCALL_TOKEN
	if u := os.Getenv("ROLLCALL_URL"); u != "" {
		c.rollcall = u
	}
	hostname, _ := os.Hostname() // the id of the container, in a container
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

// serve runs the role and its health check until ctx ends, and waits for requests in flight.
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

// healthcheck answers 200 while this process can serve. It does not check memcached, on which all
// services depend: its failure would remove all services at once, which would not help, and users
// would get the error page of the proxy instead of the error of the service. memcached has a check
// of its own.
//
// The answer is the role. With ROLLCALL_EXPECT=client, a service that has taken over the address of
// a dead client does not pass the check of the client.
func healthcheck(role string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, role) //nolint:gosec // one of two words
	}
}
