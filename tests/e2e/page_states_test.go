package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// backend is a container's server, which answers its health check as it is told.
type backend struct {
	*httptest.Server
	sick atomic.Bool
	slow atomic.Int64 // ms
}

func newBackend(t testing.TB) *backend {
	b := &backend{}
	n := 0
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n++; n%3 == 0 {
			time.Sleep(time.Duration(b.slow.Load()) * time.Millisecond)
		}
		if b.sick.Load() {
			http.Error(w, "no database", http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(b.Close)
	return b
}

// fields are a registration of the backend, with more of them to follow.
func (b *backend) fields(service, id string, more ...string) []string {
	return append([]string{
		"service", service, "id", id, "address", b.Listener.Addr().String(), "health", "/healthz", "interval", "100ms", "timeout", "2s",
	}, more...)
}

// everyState has an instance in each state, named after it, and one in maintenance.
func everyState(t testing.TB, s *site) {
	t.Helper()
	start := func(id, service, state string, sick bool, more ...string) *backend {
		b := newBackend(t)
		b.sick.Store(sick)
		s.register(state, b.fields(service, id, more...)...)
		return b
	}
	shop := []string{"host", "shop.example.com", "host", "www.shop.example.com"}
	start("shop-healthy", "shop", "healthy", false, append(shop, "tag", "blue", "meta.commit", "3f9c2ab")...).slow.Store(8)
	dead := start("shop-unhealthy", "shop", "healthy", false, shop...)
	start("shop-maintenance", "shop", "healthy", false, shop...)
	start("shop-draining", "shop", "healthy", false, shop...)
	start("search-starting", "search", "starting", true, "host", "*.search.example.com", "grace", "1h")
	start("search-failed", "search", "failed", true, "host", "*.search.example.com", "grace", "300ms")
	start("a-very-long-name-of-an-instance-0f3c1b7e9d2a4c68b5e7f1a3d9c2b4e6-10-113-207-198-49153", "api", "healthy", false, "host", "api.a-rather-long-name.internal.example.com")
	s.register("healthy", "service", "db", "id", "db-1", "address", "10.0.0.9:5432", "health", "none")
	s.register("starting", "service", "batch", "id", "batch-heartbeat", "address", "10.0.0.10:9", "health", "heartbeat", "grace", "1h")
	s.call(http.MethodPatch, "/v1/instances/shop-maintenance", "maintenance", "true", "for", "1h")
	go func() { _, _ = s.try(http.MethodPost, "/v1/instances/shop-draining/drain?hold=5m", nil) }()
	s.await("shop-draining", "draining")
	dead.sick.Store(true)
	s.await("shop-unhealthy", "unhealthy")
	dead.Close()
}

// TestEveryState looks at every page and every state, on a desk by day and on a phone by
// night.
func TestEveryState(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	everyState(t, s)
	b := open(t, s, "/")
	for name, path := range map[string]string{
		"overview": "/", "instances": "/instances", "nothing-found": "/instances?q=nobody",
		"service": "/services/shop", "frontends": "/frontends", "explain": "/explain?host=shop.example.com",
		"explain-wildcard": "/explain?host=a.search.example.com", "events": "/events", "webhooks": "/webhooks", "tokens": "/tokens", "system": "/system", "service-hour": "/services/shop?range=1h",
		"healthy": "/instances/shop-healthy", "unhealthy": "/instances/shop-unhealthy", "maintenance": "/instances/shop-maintenance",
		"draining": "/instances/shop-draining", "starting": "/instances/search-starting", "failed": "/instances/search-failed",
		"unchecked": "/instances/db-1", "heartbeat": "/instances/batch-heartbeat",
	} {
		b.visit(path)
		for n, look := range []struct {
			width   int64
			colours string
		}{{1280, "light"}, {375, "dark"}, {1280, "dark"}, {375, "light"}} {
			if n > 1 && name != "overview" && name != "unhealthy" {
				continue // this difference is on all pages
			}
			b.look(look.width, 900, look.colours)
			where := fmt.Sprintf("%s-%d-%s", name, look.width, look.colours)
			b.audit(where)
			b.shoot(where)
		}
		b.look(1280, 900, "light")
	}
}
