package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"rollcall/app/boot"
	"rollcall/tests/harness"
)

// process is the program inside this process, with the roles of a command.
type process struct {
	*web
	env  []string
	edge string
	stop func() // returns when it has ended
}

var roles = map[string]boot.Roles{
	"web":   {Web: true},
	"cron":  {Cron: true},
	"serve": {Web: true, Cron: true},
	"all":   {Web: true, Cron: true, Edge: true},
}

// boots starts the program on a Redis, with an environment of NAME=value.
func boots(t testing.TB, server *harness.Server, command string, env ...string) *process {
	t.Helper()
	env = append([]string{"REDIS_URL=redis://" + server.Addr(), "PORT=0", "ROLLCALL_EDGE_PORT=0", "ROLLCALL_SETTLE=300ms"}, env...)
	c, err := boot.Load(env)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	b, err := boot.New(t.Context(), c, roles[command], false, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // it ends after what uses it
	ended := make(chan error, 1)
	p := &process{
		web: &web{t: t, base: "http://" + b.WebAddr(), rdb: server.Client(t), prefix: ""}, env: env, edge: b.EdgeAddr(),
		stop: sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("rollcall %s: %v", command, err)
			}
		}),
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 50}
	p.client = &http.Client{Transport: harness.CheckingTransport(t, transport)}
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		p.stop()
	})
	if b.WebAddr() == "" {
		return p
	}
	harness.Await(t, "rollcall "+command+" is ready", func() error {
		if a, err := p.try(t.Context(), http.MethodGet, "/readyz", nil); err != nil || a.status != http.StatusOK {
			return errors.Join(err, errors.New(a.String()))
		}
		return nil
	})
	return p
}

func jsonFrom(r io.Reader, to any) error { return json.NewDecoder(r).Decode(to) }

// metric reads a metric without labels, as Prometheus writes it.
func metric(r io.Reader, name string) (value float64) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			value, _ = strconv.ParseFloat(text, 64)
		}
	}
	return value
}
